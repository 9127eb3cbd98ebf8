// attention_int16 and attention_int8 against double precision within what its codes lose at most, against the scalar reference within what exponentials do,
// its sums against whole numbers, and poison where it must not look.
#include <algorithm>
#include <sstream>

#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

struct Kind {
  const char* name;
  AttentionKind codes;
  void (*Ops::*op)(const AttentionTask&);
};
const Kind kKinds[] = {{"attention_int16", kAttentionWords, &Ops::attention_int16}, {"attention_int8", kAttentionBytes, &Ops::attention_int8}};

struct Case {
  std::int64_t queries, keys, d;
  bool causal = false;
  std::int64_t position = 0, window = -1, reach = -1;  // reach of a bias; -1: none
  bool slopes = false;
  std::int64_t heads = 1;
};

std::string text(const Kind& kind, Isa isa, const Case& c) {
  std::ostringstream out;
  out << kind.name << " " << isa_name(isa) << " queries " << c.queries << " keys " << c.keys << " d " << c.d << (c.causal ? " causal" : "")
      << " from " << c.position << " window " << c.window << " reach " << c.reach << " heads " << c.heads;
  return out.str();
}

// NEON multiplies floats here, and AVX2 words in the place of bytes, as they win nothing there.
bool computes_finer(const Kind& kind, Isa isa) {
  if (isa == Isa::neon || isa == Isa::neondot) return true;
  return kind.codes.value_bits < 12 && isa != Isa::scalar && isa != Isa::avx512vnni;
}

// Inputs with slices of wide rows, and a task on them.
struct Inputs {
  Case c;
  std::int64_t width, ldq, ldk, ldv, ldy;
  std::vector<float> q, k, v, bias, slopes;
  AlignedBuffer<std::uint8_t> scratch;
  std::size_t bytes;

  explicit Inputs(const Case& from)
      : c(from), width(c.heads * c.d), ldq(width + 3), ldk(2 * c.d + 1), ldv(c.d + 8), ldy(width + 5),
        bytes(attention_codes_scratch_bytes(c.queries, c.keys, c.d, c.window >= 0)) {
    Random random(static_cast<std::uint64_t>(c.queries * 7919 + c.keys * 104729 + c.d));
    q = random_floats(random, c.queries * ldq, -2.0f, 2.0f);
    k = random_floats(random, c.keys * ldk, -2.0f, 2.0f);
    v = random_floats(random, c.keys * ldv);
    for (std::int64_t j = 0; j < c.keys; ++j)  // keys of all sizes
      for (std::int64_t e = 0; e < c.d; ++e) v[j * ldv + e] *= static_cast<float>(1 << (j % 5));
    bias = random_floats(random, c.heads * (2 * std::max<std::int64_t>(0, c.reach) + 1));
    slopes = random_floats(random, c.heads, 0.0f, 0.3f);
    scratch = AlignedBuffer<std::uint8_t>(bytes + 64);
    std::memset(scratch.data(), 0xff, scratch.size());  // NaN, if taken for floats
  }

  std::int64_t first(std::int64_t i) const { return c.window < 0 ? 0 : std::max<std::int64_t>(0, c.position + i - c.window); }
  std::int64_t end(std::int64_t i) const {
    const std::int64_t seen = c.window < 0 ? c.keys : std::min(c.keys, c.position + i + c.window + 1);
    return c.causal ? std::min(seen, c.position + i + 1) : seen;
  }

  std::vector<float> run(const Kind& kind, Isa isa, float scale) {
    std::vector<float> y(static_cast<std::size_t>(c.queries * ldy), kCanary);
    const AttentionTask task{q.data(), ldq, k.data(), ldk, v.data(), ldv, c.queries, c.keys, c.d, c.heads, c.causal, c.position, scale,
                             nullptr, y.data(), ldy, scratch.data(), c.window, 0.0f, c.reach < 0 ? nullptr : bias.data(),
                             std::max<std::int64_t>(0, c.reach), c.slopes ? slopes.data() : nullptr};
    (ops_for(isa).*kind.op)(task);
    for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xff, text(kind, isa, c) << " wrote beyond its scratch");
    return y;
  }
};

// std::max: GCC 12 for aarch64 fails ("internal compiler error") over fmax here.
double largest(const float* x, std::int64_t d) {
  double most = 0.0;
  for (std::int64_t e = 0; e < d; ++e) most = std::max<double>(most, std::fabs(x[e]));
  return most;
}

// A query of a head in double precision; `off`: what its codes may be off by at most.
void check_row(const Kind& kind, Isa isa, const Inputs& in, const std::vector<float>& y, std::int64_t i, std::int64_t head, double scale) {
  const Case& c = in.c;
  const std::int64_t first = in.first(i), end = in.end(i), n = end - first;
  const float* const q = in.q.data() + i * in.ldq + head * c.d;
  const double step = 0.5 / kind.codes.limit(c.d), most_q = largest(q, c.d);
  std::vector<double> p(static_cast<std::size_t>(n)), reach(static_cast<std::size_t>(n));
  double top = -INFINITY, off = 0.0, sum = 0.0, weighted = 0.0;
  for (std::int64_t j = first; j < end; ++j) {
    const float* const k = in.k.data() + j * in.ldk;
    const double most_k = largest(k, c.d);
    double score = 0.0, loss = 0.0;
    for (std::int64_t e = 0; e < c.d; ++e) {
      score += static_cast<double>(q[e]) * k[e];
      loss += std::fabs(q[e]) * most_k * step + std::fabs(k[e]) * most_q * step + most_q * most_k * step * step;
    }
    off = std::max<double>(off, loss * std::fabs(scale) + 1e-6 * std::fabs(score * scale));
    const std::int64_t t = j - c.position - i;
    score *= scale;
    if (c.reach >= 0) score += in.bias[head * (2 * c.reach + 1) + std::clamp(t, -c.reach, c.reach) + c.reach];
    if (c.slopes) score -= in.slopes[head] * static_cast<double>(std::abs(t));
    p[j - first] = score;
    top = std::max<double>(top, score);
  }
  double rounding = 0.0;
  for (std::int64_t j = 0; j < n; ++j) {
    p[j] = std::exp(p[j] - top);
    sum += p[j];
    reach[j] = 2 * largest(in.v.data() + (first + j) * in.ldv, c.d);  // the power of two above
    weighted += p[j] * reach[j];
    rounding = std::max<double>(rounding, p[j] * reach[j]);
  }
  // Weights: twice their relative error, as it is in the sum too; half a code for each; values: half a code of their power of two.
  const double relative = std::expm1(2 * off) + 2.5e-4 + 1e-6 * static_cast<double>(n);
  const double half_value = (kind.codes.value_limit < 128.0f ? 1.0 : 0.5) / (1 << kind.codes.value_bits);  // 128 is cut to 127
  const double lost = (weighted * (relative + half_value) + static_cast<double>(n) * rounding * (0.5 / kind.codes.weight) * (1 + relative)) / sum;
  for (std::int64_t e = 0; e < c.d; ++e) {
    double value = 0.0;
    for (std::int64_t j = 0; j < n; ++j) value += p[j] / sum * in.v[(first + j) * in.ldv + e];
    const float got = y[i * in.ldy + head * c.d + e];
    CHECK(std::fabs(got - value) <= lost, text(kind, isa, c) << " [" << i << ", " << e << "]: " << got << ", expected " << value << " +- " << lost);
  }
}

void check(const Kind& kind, Isa isa, const Case& c) {
  Inputs in(c);
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.d));
  const std::vector<float> y = in.run(kind, isa, scale), scalar = in.run(kind, Isa::scalar, scale);
  double size = 0.0, error = 0.0;
  for (std::int64_t i = 0; i < c.queries; ++i) {
    if (i % 7 == 0 || i + 1 == c.queries)
      for (std::int64_t head = 0; head < c.heads; ++head) check_row(kind, isa, in, y, i, head, scale);
    for (std::int64_t e = 0; e < in.width; ++e) {
      size += static_cast<double>(scalar[i * in.ldy + e]) * scalar[i * in.ldy + e];
      error += std::pow(static_cast<double>(y[i * in.ldy + e]) - scalar[i * in.ldy + e], 2);
    }
    for (std::int64_t e = in.width; e < in.ldy; ++e) CHECK(y[i * in.ldy + e] == kCanary, text(kind, isa, c) << " wrote beyond row " << i);
  }
  // Exponentials differ by 1.1e-4 at most, and with them codes of weights by one.
  const double apart = kind.codes.value_bits < 12 ? 2e-3 : 6.4e-4;
  CHECK(error <= apart * apart * size || computes_finer(kind, isa), text(kind, isa, c) << " is off the scalar reference by " << std::sqrt(error / size));

  // What a query does not see must not touch it; a NaN that it sees makes its row one.
  for (const std::int64_t poisoned : {in.end(c.queries - 1) - 1, in.first(0)})
    for (const bool in_values : {false, true}) {
      std::vector<float>& into = in_values ? in.v : in.k;
      const std::int64_t at = poisoned * (in_values ? in.ldv : in.ldk);
      const float before = into[at];
      into[at] = std::nanf("");
      const std::vector<float> now = in.run(kind, isa, scale);
      into[at] = before;
      for (std::int64_t i = 0; i < c.queries; ++i) {
        const bool sees = in.first(i) <= poisoned && poisoned < in.end(i);
        const float got = now[i * in.ldy];
        CHECK(sees ? std::isnan(got) : same_bits(got, y[i * in.ldy]), text(kind, isa, c) << " and a NaN at key " << poisoned << ": row " << i << " is " << got);
      }
    }
}

TEST(ops_attention_codes_shapes) {
  for (const Kind& kind : kKinds) for (Isa isa : tested_isas()) {
    for (std::int64_t d : {1, 7, 16, 31, 32, 48, 64, 80, 128, 129, 256}) check(kind, isa, {49, 53, d});
    for (std::int64_t keys : {48, 64, 127, 128, 129, 255, 300}) check(kind, isa, {48, keys, 20});
    for (std::int64_t queries : {50, 72, 127, 131}) check(kind, isa, {queries, 60, 24});
  }
}

TEST(ops_attention_codes_limits) {
  for (const Kind& kind : kKinds) for (Isa isa : tested_isas()) {
    check(kind, isa, {60, 60, 32, true});
    check(kind, isa, {50, 200, 32, true, 150});
    check(kind, isa, {64, 210, 24, true, 100});  // more keys than anyone sees
    for (std::int64_t window : {0, 1, 20, 64, 130}) {
      check(kind, isa, {70, 270, 16, false, 150, window});
      check(kind, isa, {60, 260, 16, true, 200, window});
    }
    check(kind, isa, {50, 150, 16, false, 40, -1, 9, true});
    check(kind, isa, {50, 150, 16, false, 40, 30, 200, false, 2});
  }
}

// Weights all equal and values of one size: sums of codes, to the last bit that a float has.
TEST(ops_attention_codes_sums_are_whole_numbers) {
  for (const Kind& kind : kKinds) for (Isa isa : tested_isas()) {
    if (computes_finer(kind, isa)) continue;
    const float unit = std::ldexp(1.0f, kind.codes.value_bits);
    for (std::int64_t keys : {48, 101, 128}) {
      Inputs in({48, keys, 40});
      for (std::int64_t j = 0; j < keys; ++j) {
        for (std::int64_t e = 0; e < 40; ++e) in.v[j * in.ldv + e] = std::fmod(in.v[j * in.ldv + e], 0.75f) + 0.2f;
        in.v[j * in.ldv] = 0.984375f;
        for (std::int64_t e = 0; e < 40; ++e) in.v[j * in.ldv + e] = std::clamp(in.v[j * in.ldv + e], -0.99f, 0.99f);
      }
      const std::vector<float> y = in.run(kind, isa, 0.0f);
      for (std::int64_t i = 0; i < 48; ++i)
        for (std::int64_t e = 1; e < 40; ++e) {
          double sum = 0.0;
          for (std::int64_t j = 0; j < keys; ++j) sum += std::nearbyint(in.v[j * in.ldv + e] * unit);
          const double expected = sum / (static_cast<double>(keys) * (0.984375 * unit)) * y[i * in.ldy];
          CHECK(std::fabs(y[i * in.ldy + e] - expected) <= 4 * kEps, text(kind, isa, in.c) << " [" << i << ", " << e << "]: " << y[i * in.ldy + e] << ", expected " << expected);
        }
    }
  }
}

// Many far keys beside a near one count what they should, whatever codes can tell apart in one chunk.
TEST(ops_attention_codes_many_small_weights) {
  for (const Kind& kind : kKinds) for (Isa isa : tested_isas()) {
    const std::int64_t keys = 2100, d = 8;
    Inputs in({48, keys, d});
    for (float& x : in.q) x = 1.0f;
    for (std::int64_t j = 0; j < keys; ++j)
      for (std::int64_t e = 0; e < d; ++e) {
        in.k[j * in.ldk + e] = j == 5 ? 0.0f : -10.0f / d;  // e^-10 of the near one
        in.v[j * in.ldv + e] = j == 5 ? -1.0f : 1.0f;
      }
    const std::vector<float> y = in.run(kind, isa, 1.0f);
    const double far = std::exp(-10.0), expected = (far * (keys - 1) - 1) / (far * (keys - 1) + 1);
    for (std::int64_t e = 0; e < d; ++e) CHECK(std::fabs(y[e] - expected) < 0.012, text(kind, isa, in.c) << ": " << y[e] << ", expected " << expected);
  }
}

// An infinity that a query sees makes its row a NaN, whatever the signs beside it are.
TEST(ops_attention_codes_infinities) {
  for (const Kind& kind : kKinds) for (Isa isa : tested_isas()) {
    if (computes_finer(kind, isa)) continue;
    for (std::int64_t keys : {60, 200})
      for (float poison : {INFINITY, -INFINITY})
        for (int where = 0; where < 3; ++where) {
          Inputs in({60, keys, 24, true, keys - 60});
          for (float& x : in.q) x = std::fabs(x);
          for (std::int64_t e = 0; e < 24; ++e) {  // in one element, and in all
            if (where == 0 && (e == 3 || keys == 200)) in.k[(keys - 20) * in.ldk + e] = poison;
            if (where == 1 && (e == 3 || keys == 200)) in.v[(keys - 20) * in.ldv + e] = poison;
            if (where == 2 && (e == 3 || keys == 200)) in.q[40 * in.ldq + e] = poison;
          }
          const std::vector<float> y = in.run(kind, isa, 0.2f);
          for (std::int64_t i = 0; i < 60; ++i)
            CHECK(std::isnan(y[i * in.ldy]) == (where == 2 ? i == 40 : i >= 40), text(kind, isa, in.c) << " and " << poison << " in " << where << ": row " << i << " is " << y[i * in.ldy]);
        }
  }
}

// A large value beside zeros is weighed as it should be; too large a one is a NaN, and no other number.
TEST(ops_attention_codes_large_values) {
  for (const Kind& kind : kKinds) for (Isa isa : tested_isas()) {
    if (computes_finer(kind, isa)) continue;
    for (std::int64_t keys : {60, 300})
      for (int exponent : {20, 47, 48, 80, 127}) {
        Inputs in({60, keys, 16});
        std::fill(in.v.begin(), in.v.end(), 0.0f);
        const float large = std::ldexp(0.875f, exponent);
        for (std::int64_t e = 0; e < 16; ++e) in.v[7 * in.ldv + e] = large;
        const std::vector<float> y = in.run(kind, isa, 0.0f);
        const float expected = large / static_cast<float>(keys);
        for (std::int64_t i = 0; i < 60; ++i) {
          const float got = y[i * in.ldy];
          CHECK(exponent > 48 ? std::isnan(got) : std::fabs(got / expected - 1.0f) < 1e-3f, text(kind, isa, in.c) << ": " << got << ", expected " << expected);
        }
      }
  }
}

}  // namespace
}  // namespace aerogel
