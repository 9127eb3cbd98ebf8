// attention against double precision, with slices of wide rows, odd sizes, causal limits and windows, all that scores can be
// besides products, and poison where it must not look.
#include <algorithm>
#include <sstream>

#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

struct Case {
  std::int64_t queries, keys, d;
  bool causal;
  std::int64_t limit;      // the position of the first query among the keys
  std::int64_t heads = 1;  // that share the keys
  std::int64_t window = -1;
  float softcap = 0.0f;
  std::int64_t reach = -1;  // of a bias; -1: none
  bool slopes = false;
};

std::int64_t first_key(const Case& c, std::int64_t i) {
  return c.window < 0 ? 0 : std::max<std::int64_t>(0, c.limit + i - c.window);
}
std::int64_t end_key(const Case& c, std::int64_t i) {
  const std::int64_t end = c.window < 0 ? c.keys : std::min(c.keys, c.limit + i + c.window + 1);
  return c.causal ? std::min(end, c.limit + i + 1) : end;
}

std::string text(Isa isa, const Case& c) {
  std::ostringstream out;
  out << "attention " << isa_name(isa) << " queries " << c.queries << " keys " << c.keys << " d " << c.d << " heads " << c.heads
      << (c.causal ? " causal from " : " from ") << c.limit << " window " << c.window << " softcap " << c.softcap << " reach " << c.reach
      << " slopes " << c.slopes;
  return out.str();
}

void check(Isa isa, const Case& c, float magnitude = 2.0f, float factor = 1.0f) {
  Random random(static_cast<std::uint64_t>(c.queries * 7919 + c.keys * 104729 + c.d));
  const std::int64_t width = c.heads * c.d, ldq = width + 3, ldk = 2 * c.d + 1, ldv = c.d + 8, ldy = width + 5;
  const std::vector<float> q = random_floats(random, c.queries * ldq, -magnitude, magnitude);
  std::vector<float> k = random_floats(random, c.keys * ldk, -magnitude, magnitude), v = random_floats(random, c.keys * ldv);
  // Rows that no query sees are poison.
  const std::int64_t hidden = first_key(c, 0), visible = end_key(c, c.queries - 1);
  for (std::int64_t i = 0; i < hidden * ldk; ++i) k[i] = std::nanf("");
  for (std::int64_t i = 0; i < hidden * ldv; ++i) v[i] = std::nanf("");
  for (std::int64_t i = visible * ldk; i < c.keys * ldk; ++i) k[i] = std::nanf("");
  for (std::int64_t i = visible * ldv; i < c.keys * ldv; ++i) v[i] = std::nanf("");
  const float scale = factor / std::sqrt(static_cast<float>(c.d));
  const std::size_t bytes = attention_scratch_bytes(c.queries, c.keys, c.d, c.window >= 0);
  AlignedBuffer<std::uint8_t> scratch(bytes + 64);
  std::memset(scratch.data(), 0xff, scratch.size());  // NaN, if taken for floats
  std::vector<float> y(static_cast<std::size_t>(c.queries * ldy), kCanary);
  const std::vector<float> bias = random_floats(random, c.heads * (2 * std::max<std::int64_t>(0, c.reach) + 1)), slopes = random_floats(random, c.heads, 0.0f, 0.3f);
  const AttentionTask task{q.data(), ldq, k.data(), ldk, v.data(), ldv, c.queries, c.keys, c.d, c.heads, c.causal, c.limit, scale,
                           nullptr, y.data(), ldy, scratch.data(), c.window, c.softcap, c.reach < 0 ? nullptr : bias.data(),
                           std::max<std::int64_t>(0, c.reach), c.slopes ? slopes.data() : nullptr};
  ops_for(isa).attention(task);

  const std::string where = text(isa, c);
  for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xff, where << " wrote beyond its scratch");
  for (std::int64_t row = 0; row < c.queries * c.heads; ++row) {
    const std::int64_t i = row / c.heads, head = row % c.heads, column = head * c.d, first = first_key(c, i), end = end_key(c, i);
    std::vector<double> p(static_cast<std::size_t>(end));
    double largest = -INFINITY, products = 0.0, scores = 0.0, sum = 0.0;
    for (std::int64_t j = first; j < end; ++j) {
      double score = 0.0, size = 0.0;
      for (std::int64_t e = 0; e < c.d; ++e) {
        const double product = static_cast<double>(q[i * ldq + column + e]) * k[j * ldk + e];
        score += product;
        size += std::fabs(product);
      }
      p[j] = score * scale;
      const double away = static_cast<double>(j - c.limit - i);
      if (c.softcap > 0.0f) p[j] = c.softcap * std::tanh(p[j] / c.softcap);
      scores = std::fmax(scores, c.softcap > 0.0f ? 5 * std::fabs(p[j]) : 0.0);  // tanh is off by 5 roundings
      const double by_bias = c.reach < 0 ? 0.0 : bias[head * (2 * c.reach + 1) + std::clamp<std::int64_t>(j - c.limit - i, -c.reach, c.reach) + c.reach];
      const double by_slope = c.slopes ? slopes[head] * std::fabs(away) : 0.0;
      p[j] += by_bias - by_slope;
      scores = std::fmax(scores, 2 * (std::fabs(by_bias) + std::fabs(by_slope)));
      largest = std::fmax(largest, p[j]);
      products = std::fmax(products, size * std::fabs(scale));
      scores = std::fmax(scores, std::fabs(p[j]));
    }
    for (std::int64_t j = first; j < end; ++j) sum += p[j] = std::exp(p[j] - largest);
    // A score is off by (d + 1) roundings of its products and two of its own size, once for the key and once for the
    // maximum; the exponential by 4 more; the weighted sum by one a key, and the sum and its inverse.
    const double relative = kEps * (2 * ((static_cast<double>(c.d) + 1) * products + 2 * scores) + 8 + 2 * (static_cast<double>(end - first) / 4 + 8));
    for (std::int64_t e = 0; e < c.d; ++e) {
      double value = 0.0, size = 0.0;
      for (std::int64_t j = first; j < end; ++j) {
        value += p[j] / sum * v[j * ldv + e];
        size += p[j] / sum * std::fabs(v[j * ldv + e]);
      }
      const float got = y[i * ldy + column + e];
      CHECK(std::fabs(got - value) <= relative * size + 1e-30, where << " [" << i << ", " << column + e << "]: " << got << ", expected " << value << " +- " << relative * size);
    }
    for (std::int64_t e = width; e < ldy; ++e) CHECK(y[i * ldy + e] == kCanary, where << " wrote beyond row " << i);
  }

  // What a query does not see must not touch it, not even times 0.
  for (const std::int64_t poisoned : {visible - 1, hidden}) {  // seen by the last queries only, or by the first
    if (c.queries == 1 || visible - hidden < 2 || (!c.causal && c.window < 0)) break;
    const std::vector<float> values = v, keys = k;
    for (std::int64_t e = 0; e < c.d; ++e) v[poisoned * ldv + e] = std::nanf("");
    for (std::int64_t e = 0; e < c.d; ++e) k[poisoned * ldk + e] = std::nanf("");
    const std::vector<float> before = y;
    ops_for(isa).attention(task);
    for (std::int64_t i = 0; i < c.queries; ++i)
      for (std::int64_t e = 0; e < width; ++e) {
        const bool sees = first_key(c, i) <= poisoned && poisoned < end_key(c, i);
        const float got = y[i * ldy + e];
        CHECK(sees ? std::isnan(got) : same_bits(got, before[i * ldy + e]), where << " and a NaN at key " << poisoned << ": [" << i << ", " << e << "] is " << got);
      }
    v = values;
    k = keys;
    y = before;
  }
}

TEST(ops_attention_shapes) {
  for (Isa isa : tested_isas())
    for (std::int64_t d : {1, 7, 8, 9, 16, 24, 31, 32, 33, 64, 80, 100, 128, 256})
      for (std::int64_t queries : {1, 2, 4, 5, 6, 7, 12, 13, 50})
        for (std::int64_t keys : {1, 7, 8, 9, 16, 17, 33, 65}) {
          check(isa, {queries, keys, d, false, 0});
        }
}

TEST(ops_attention_causal) {
  for (Isa isa : tested_isas())
    for (std::int64_t d : {8, 31, 32, 64})
      for (std::int64_t queries : {1, 2, 5, 6, 7, 11, 13, 14, 50, 65})
        for (std::int64_t prefix : {0, 1, 5, 16, 40}) {
          check(isa, {queries, queries + prefix, d, true, prefix});        // prefill after a prefix
          check(isa, {queries, queries + prefix + 9, d, true, prefix});    // more keys than anyone sees
          check(isa, {queries, (queries + prefix + 1) / 2, d, true, prefix});  // the last queries see them all
        }
}

// Windows that are narrower than a tile, wider than a panel, as wide as everything.
TEST(ops_attention_windows) {
  for (Isa isa : tested_isas())
    for (std::int64_t d : {8, 33, 64})
      for (std::int64_t queries : {1, 3, 5, 13, 50, 100})
        for (std::int64_t window : {0, 1, 3, 16, 40, 1000})
          for (std::int64_t prefix : {0, 9, 70})
            for (bool causal : {false, true}) {
              check(isa, {queries, queries + prefix, d, causal, prefix, 1, window});
              check(isa, {queries, queries + prefix + 20, d, causal, prefix, 1, window});
            }
}

// Soft caps, biases and slopes, each alone and all together.
TEST(ops_attention_adjusted_scores) {
  for (Isa isa : tested_isas())
    for (std::int64_t queries : {1, 4, 5, 12, 51})
      for (std::int64_t heads : {1, 3, 4})
        for (std::int64_t prefix : {0, 30})
          for (bool causal : {false, true})
            for (std::int64_t reach : {0, 1, 7, 40, 200}) {
              Case c{queries, queries + prefix + 3, 20, causal, prefix, heads};
              c.reach = reach;
              check(isa, c);
              c.softcap = 3.0f;
              c.window = 25;
              c.slopes = true;
              check(isa, c);
              c.reach = -1;
              c.softcap = 0.0f;
              check(isa, c);
              c.slopes = false;
              c.softcap = 30.0f;
              check(isa, c, 4.0f);
            }
}

// Query heads that share their keys and values.
TEST(ops_attention_heads) {
  for (Isa isa : tested_isas())
    for (std::int64_t d : {1, 8, 20, 40, 64, 128})
      for (std::int64_t heads : {2, 3, 4, 7, 8})
        for (std::int64_t queries : {1, 2, 6}) {
          check(isa, {queries, 33, d, false, 0, heads});
          check(isa, {queries, queries + 20, d, true, 20, heads});
        }
}

// More keys than are looked at together.
TEST(ops_attention_in_parts) {
  for (Isa isa : tested_isas()) {
    for (std::int64_t keys : {kAttentionPart - 1, kAttentionPart, kAttentionPart + 1, kAttentionPart + 60, 2 * kAttentionPart + 1})
      for (std::int64_t queries : {5, 13, 50}) {
        check(isa, {queries, keys, 24, false, 0});
        check(isa, {queries, keys, 24, true, keys - queries, 2});          // the last query sees all
        check(isa, {queries, keys + queries - 1, 17, true, keys - 1});     // the first one does
        check(isa, {queries, keys, 33, true, keys - queries / 2});         // some do
      }
    Case c{20, 2 * kAttentionPart + 90, 20, true, 2 * kAttentionPart + 70, 3};
    c.reach = 1500;
    c.slopes = true;
    check(isa, c);
    c.softcap = 3.0f;
    check(isa, c);
  }
}

// A part of the keys whose scores are all minus infinity has no weight; if all are, there is no answer, as in one part.
TEST(ops_attention_parts_without_weight) {
  const std::int64_t keys = 2 * kAttentionPart + 100, queries = 6, d = 16;
  for (Isa isa : tested_isas())
    for (const std::int64_t part : {0, 1, 2, 3}) {
      std::vector<float> q(queries * d, 1e30f), k(keys * d, 0.0f), v(keys * d, 1.0f), y(queries * d, kCanary);
      const std::int64_t begin = part == 3 ? 0 : part * kAttentionPart, end = part == 3 ? keys : std::min(keys, begin + kAttentionPart);
      for (std::int64_t i = begin * d; i < end * d; ++i) k[i] = -1e30f, v[i] = 7.0f;
      AlignedBuffer<std::uint8_t> scratch(attention_scratch_bytes(queries, keys, d, false));
      ops_for(isa).attention({q.data(), d, k.data(), d, v.data(), d, queries, keys, d, 1, false, 0, 1.0f, nullptr, y.data(), d, scratch.data()});
      for (const float got : y) CHECK(part == 3 ? std::isnan(got) : std::fabs(got - 1.0f) < 1e-5f, isa_name(isa) << " part " << part << ": " << got);
    }
}

TEST(ops_attention_large) {
  for (Isa isa : tested_isas()) {
    check(isa, {128, 128, 32, false, 0});
    check(isa, {130, 128, 64, true, 0});
    check(isa, {70, 700, 64, false, 0});
    check(isa, {20, 3000, 32, true, 2980});
    check(isa, {1, 3001, 128, true, 3000});
    check(isa, {1, 1027, 80, false, 0});
    check(isa, {1, 1027, 64, true, 1026, 3});
    check(isa, {128, 1100, 64, true, 972, 1, 900});
    check(isa, {128, 256, 64, false, 64, 1, 64, 20.0f, 31, true});
  }
}

// Scores so far apart that most weights vanish, scores all equal, and a negative scale.
TEST(ops_attention_score_range) {
  for (Isa isa : tested_isas())
    for (std::int64_t queries : {1, 9}) {
      check(isa, {queries, 37, 64, false, 0}, 12.0f);
      // The largest may be in any vector, so far above the others that these have no weight.
      for (std::int64_t keys : {15, 29, 31, 47}) check(isa, {queries, keys, 64, false, 0}, 12.0f, 6.0f);
      check(isa, {queries, 37, 64, false, 0}, 2.0f, 0.0f);
      check(isa, {queries, 37, 64, false, 0}, 2.0f, -1.0f);
      check(isa, {queries, 16, 32, true, 5}, 5.0f, 3.0f);
    }
}

}  // namespace
}  // namespace aerogel
