// disentangled_attention against double precision: buckets of distances, odd sizes, one kind of products or both.
#include <algorithm>
#include <sstream>

#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

struct Case {
  std::int64_t queries, keys, d, position, reach, step;  // step: distances to a row, beyond two of them
  bool keys_of_positions = true, queries_of_positions = true;
};

void check(Isa isa, const Case& c) {
  Random random(static_cast<std::uint64_t>(c.queries * 7919 + c.keys * 104729 + c.d));
  const std::int64_t ld = 3 * c.d + 5, ldy = c.d + 3, ldp = c.d + 1, tokens = std::max(c.queries, c.keys);
  std::vector<std::int32_t> rows;
  for (std::int64_t t = -c.reach; t <= c.reach; ++t)
    rows.push_back(static_cast<std::int32_t>(c.reach + (t > 2 ? 2 + (t - 2) / c.step : t < -2 ? -2 + (t + 2) / c.step : t)));
  const std::int64_t table = rows.back() + 1;
  const std::vector<float> qkv = random_floats(random, tokens * ld), positions = random_floats(random, 2 * table * ldp);
  const float* const position_keys = c.keys_of_positions ? positions.data() : nullptr;
  const float* const position_queries = c.queries_of_positions ? positions.data() + table * ldp : nullptr;
  const float scale = 1.0f / std::sqrt(3.0f * static_cast<float>(c.d));
  const std::size_t bytes = disentangled_scratch_bytes(c.queries, c.keys, c.d, rows.back() - rows.front() + 1);
  AlignedBuffer<std::uint8_t> scratch(bytes + 64);
  std::memset(scratch.data(), 0xff, scratch.size());
  std::vector<float> y(static_cast<std::size_t>(c.queries * ldy), kCanary);
  const float *q = qkv.data(), *k = q + c.d, *v = k + c.d;
  ops_for(isa).disentangled_attention({q, k, v, ld, c.queries, c.keys, c.d, c.position, scale, position_keys, position_queries, ldp,
                                       rows.data(), c.reach, y.data(), ldy, scratch.data()});

  std::ostringstream text;
  text << "disentangled_attention " << isa_name(isa) << " queries " << c.queries << " keys " << c.keys << " d " << c.d << " from "
       << c.position << " reach " << c.reach << " step " << c.step << " products " << c.keys_of_positions << c.queries_of_positions;
  const std::string where = text.str();
  for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xff, where << " wrote beyond its scratch");
  for (std::int64_t i = 0; i < c.queries; ++i) {
    std::vector<double> p(static_cast<std::size_t>(c.keys));
    double largest = -INFINITY, products = 0.0, sum = 0.0;
    for (std::int64_t j = 0; j < c.keys; ++j) {
      const std::int64_t row = rows[std::clamp<std::int64_t>(j - c.position - i, -c.reach, c.reach) + c.reach] * ldp;
      double score = 0.0, size = 0.0;
      const auto take = [&](const float* a, const float* b) {
        for (std::int64_t e = 0; e < c.d; ++e) {
          score += static_cast<double>(a[e]) * b[e];
          size += std::fabs(static_cast<double>(a[e]) * b[e]);
        }
      };
      take(q + i * ld, k + j * ld);
      if (position_keys != nullptr) take(q + i * ld, position_keys + row);
      if (position_queries != nullptr) take(k + j * ld, position_queries + row);
      p[j] = score * scale;
      largest = std::fmax(largest, p[j]);
      products = std::fmax(products, size * scale);
    }
    for (double& value : p) sum += value = std::exp(value - largest);
    // As for attention, with three products and the two roundings of their sum.
    const double relative = kEps * (2 * (static_cast<double>(c.d) + 5) * products + 8 + 2 * (static_cast<double>(c.keys) / 4 + 8));
    for (std::int64_t e = 0; e < c.d; ++e) {
      double value = 0.0, size = 0.0;
      for (std::int64_t j = 0; j < c.keys; ++j) {
        value += p[j] / sum * v[j * ld + e];
        size += p[j] / sum * std::fabs(v[j * ld + e]);
      }
      const float got = y[i * ldy + e];
      CHECK(std::fabs(got - value) <= relative * size + 1e-30, where << " [" << i << ", " << e << "]: " << got << ", expected " << value);
    }
    for (std::int64_t e = c.d; e < ldy; ++e) CHECK(y[i * ldy + e] == kCanary, where << " wrote beyond row " << i);
  }
}

TEST(ops_disentangled_attention) {
  for (Isa isa : tested_isas())
    for (std::int64_t d : {1, 8, 20, 33, 64})
      for (std::int64_t tokens : {1, 2, 5, 13, 49, 130})
        for (std::int64_t reach : {0, 3, 20, 200})
          for (std::int64_t step : {1, 7}) {
            check(isa, {tokens, tokens, d, 0, reach, step});
            check(isa, {tokens, tokens, d, 0, reach, step, true, false});
            check(isa, {tokens, tokens, d, 0, reach, step, false, true});
            check(isa, {tokens, tokens, d, 0, reach, step, false, false});
            check(isa, {(tokens + 1) / 2, tokens, d, tokens / 2, reach, step});
          }
}

}  // namespace
}  // namespace aerogel
