// What attention in words (int16) is made of: codes of queries, keys and values, tiles of the two products, the softmax between.
// Over the vocabulary of an ops/math_<isa>.h and the few words on pairs that the ISA file defines before it includes this:
//
//     dot_pairs(sum, a, b)    32-bit sums of both products of every pair of words
//     join_pairs(even, odd)   the low words of two vectors of integers as pairs
//     store_words(p, a, b)    2 kLanes integers, as words, saturated: four of a, four of b, and so on
//     scaled_by_power(v, t)   v times two to the power that the low bits of t say
//     load_pairs, store_pairs, broadcast_pair, to_floats
//
// `ops.h` says what the codes are. A pair is two neighbours along what is summed over: of a row of q or k two elements, of a column
// of v two keys.
#pragma once

#include "ops/attention/body.h"

namespace aerogel {
namespace {

constexpr std::int64_t kChunk = kAttentionChunk;
constexpr std::int64_t kRows = 24;      // queries whose scores are held at a time
constexpr std::int64_t kQueries = 128;  // whose codes are
constexpr float kNothing = -1e30f;      // the largest score of no keys

// ---- codes -------------------------------------------------------------------------------------------------------

// The bits of the largest magnitude of each of rows x[d]; those of a NaN if there is one.
inline void largest_of_rows(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t d, std::uint32_t* bits) {
  for (std::int64_t r = 0; r < rows; ++r, x += ld) {
    if (r + kAhead < rows) prefetch_row(x + kAhead * ld, d);
    Bits most = magnitude_bits(splat(0.0f));
    std::int64_t c = 0;
    for (; c + kLanes <= d; c += kLanes) most = max(most, magnitude_bits(load(x + c)));
    if (c < d) most = max(most, magnitude_bits(load_first(x + c, d - c)));
    bits[r] = max_lanes(most);
  }
}

// Rows as codes [rows][d, padded with zeros to a multiple of kPanel], in the order of store_words, each with a scale of its own.
inline void word_rows(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t d, std::int16_t* codes, float* scales) {
  const std::int64_t width = padded(d, kPanel);
  const float limit = attention_code_limit(d);
  std::uint32_t bits[kChunk];
  float factors[kChunk];
  largest_of_rows(x, ld, rows, d, bits);
  for (std::int64_t r = 0; r < rows; ++r) {
    float largest;
    __builtin_memcpy(&largest, bits + r, sizeof largest);
    largest = largest < kLeastMagnitude ? kLeastMagnitude : largest;
    // Of an infinity the code has no sign: a score of it could be the wrong one.
    scales[r] = bits[r] >= kInfinityBits ? __builtin_nanf("") : largest / limit;
    factors[r] = limit / largest;
  }
  for (std::int64_t r = 0; r < rows; ++r, x += ld, codes += width) {
    const Vector factor = broadcast(factors + r);
    std::int64_t c = 0;
    for (; c + kPanel <= d; c += kPanel)
      store_words(codes + c, codes_of(mul(load(x + c), factor)), codes_of(mul(load(x + c + kLanes), factor)));
    if (c < d)
      store_words(codes + c, codes_of(mul(load_first(x + c, d - c), factor)), codes_of(mul(load_first(x + c + kLanes, d - c - kLanes), factor)));
  }
}

// The even key of pair g of a panel of kPanel keys, in the order of store_words: its two vectors take turns every four lanes.
inline std::int64_t key_of_pair(std::int64_t g) { return g / 4 * 4 + (g & 1) * 2 + (g & 2) / 2 * kLanes; }

// Values as pairs of keys, in panels [ceil(d/kPanel)][pairs][kPanel], zeros behind the last key up to a multiple of kPanel. exponents[j]:
// of the power of two that key j's are fractions of; weights[j]: that power's inverse, NaN if one of the values is no number or too large.
inline void pair_values(const float* v, std::int64_t ldv, std::int64_t keys, std::int64_t d, std::int32_t* panels, float* exponents,
                        float* weights) {
  const std::int64_t all = padded(keys, kPanel);
  std::uint32_t bits[kChunk];
  float factors[kChunk + kPanel];
  largest_of_rows(v, ldv, keys, d, bits);
  for (std::int64_t j = 0; j < keys; ++j) {
    const std::int32_t exponent = value_exponent(bits[j]);
    exponents[j] = static_cast<float>(exponent);
    weights[j] = bits[j] >= kTooLargeBits ? __builtin_nanf("") : power_of_two(-exponent);
    factors[j] = power_of_two(12 - exponent);
  }
  for (std::int64_t j = keys; j < all; ++j) exponents[j] = weights[j] = factors[j] = 0.0f;
  for (std::int64_t j = 0; j < all; j += kPanel)
    for (std::int64_t g = 0; g < kPanel / 2; ++g, panels += kPanel) {
      const std::int64_t even = j + key_of_pair(g), odd = even + 1;
      const float* const row[2] = {v + at_most(even, keys - 1) * ldv, v + at_most(odd, keys - 1) * ldv};
      const Vector factor[2] = {broadcast(factors + even), broadcast(factors + odd)};
      const bool some = odd < keys;
      std::int32_t* to = panels;
      std::int64_t c = 0;
      for (; some && c + kPanel <= d; c += kPanel, to += all / 2 * kPanel)
#pragma GCC unroll 2
        for (std::int64_t u = 0; u < kPanel; u += kLanes)
          store_pairs(to + u, join_pairs(codes_of(mul(load(row[0] + c + u), factor[0])), codes_of(mul(load(row[1] + c + u), factor[1]))));
      const Bits none = codes_of(splat(0.0f));
      for (; c < d; c += kPanel, to += all / 2 * kPanel)
        for (std::int64_t u = 0; u < kPanel; u += kLanes) {
          const auto code = [&](int i) { return even + i < keys ? codes_of(mul(load_first(row[i] + c + u, d - c - u), factor[i])) : none; };
          store_pairs(to + u, join_pairs(code(0), code(1)));
        }
    }
}

// ---- the two products --------------------------------------------------------------------------------------------

// sum[rows][vectors] = a[rows, depth pairs] . panel[depth, kPanel pairs]
template <int rows, int vectors>
inline void multiply_pairs(const std::int32_t* a, std::int64_t lda, const std::int32_t* panel, std::int64_t depth, Bits (&sum)[rows][vectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[r][v] = codes_of(splat(0.0f));
  for (std::int64_t i = 0; i < depth; ++i) {
    Bits b[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) b[v] = load_pairs(panel + i * kPanel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Bits x = broadcast_pair(a + r * lda + i);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[r][v] = dot_pairs(sum[r][v], x, b[v]);
    }
  }
}

// scores[rows, kLanes vectors] = q . a K panel, as exponents of two: times both scales, plus the exponents of the values.
template <int rows, int vectors>
void word_scores(const std::int32_t* q, std::int64_t ldq, const std::int32_t* panel, std::int64_t depth, const float* of_queries,
                 const float* of_keys, const float* exponents, float* scores, std::int64_t lds) {
  Bits sum[rows][vectors];
  multiply_pairs(q, ldq, panel, depth, sum);
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) {
    const Vector keys = load(of_keys + v * kLanes), more = load(exponents + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      store(scores + r * lds + v * kLanes, fma(mul(to_floats(sum[r][v]), keys), broadcast(of_queries + r), more));
  }
}

// y[rows, columns] = keep[rows] * y + take[rows] * (p[rows, depth pairs] . a V panel); without keep: y is only written.
template <int rows, int vectors, bool keeps>
void word_values(const std::int32_t* p, std::int64_t ldp, const std::int32_t* panel, std::int64_t depth, const float* keep, const float* take,
                 float* y, std::int64_t ldy, std::int64_t columns) {
  Bits sum[rows][vectors];
  multiply_pairs(p, ldp, panel, depth, sum);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Vector factor = broadcast(take + r);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      float* const to = y + r * ldy + v * kLanes;
      Vector out = mul(to_floats(sum[r][v]), factor);
      if (keeps) out = fma(load_first(to, columns - v * kLanes), broadcast(keep + r), out);
      store_first(to, out, columns - v * kLanes);
    }
  }
}

using WordScores = void (*)(const std::int32_t*, std::int64_t, const std::int32_t*, std::int64_t, const float*, const float*, const float*,
                            float*, std::int64_t);
using WordValues = void (*)(const std::int32_t*, std::int64_t, const std::int32_t*, std::int64_t, const float*, const float*, float*,
                            std::int64_t, std::int64_t);

// Tiles of rows = 1 .. tile and columns in one or two vectors.
template <int tile, int rows = 1>
struct WordTiles {
  using Higher = WordTiles<tile, (rows < tile ? rows + 1 : rows)>;
  static WordScores score(std::int64_t height, std::int64_t columns) {
    if (height > rows) return Higher::score(height, columns);
    return columns > kLanes ? word_scores<rows, 2> : word_scores<rows, 1>;
  }
  static WordValues value(std::int64_t height, std::int64_t columns, bool keeps) {
    if (height > rows) return Higher::value(height, columns, keeps);
    if (keeps) return columns > kLanes ? word_values<rows, 2, true> : word_values<rows, 1, true>;
    return columns > kLanes ? word_values<rows, 2, false> : word_values<rows, 1, false>;
  }
};

// ---- softmax -----------------------------------------------------------------------------------------------------

// 2^t for codes, t in [-100, 12]: by degree 3, relative error 1.0e-4; 2^0 = 1.
inline Vector exp2_of_codes(Vector t) {
  const Vector bias = splat(12582912.0f), shifted = add(t, bias);
  const Vector f = sub(t, sub(shifted, bias));
  return scaled_by_power(fma(fma(fma(f, splat(0.05500893f), splat(0.24221096f)), f, splat(0.69328293f)), f, splat(1.0f)), shifted);
}

// Scores s[begin, end) of a row become codes in its first half, p[0, size), in the order of store_words, size a multiple of kPanel:
// round(4095 * 2^(s - largest)), 0 outside. Returns the sum of weights * 4095 * 2^(s - largest), lane by lane.
inline Vector word_powers(float* s, std::int64_t begin, std::int64_t end, std::int64_t size, float largest, const float* weights) {
  const Vector top = splat(largest - kLog2Of4095), floor = splat(-100.0f), zero = splat(0.0f);
  std::int16_t* const p = reinterpret_cast<std::int16_t*>(s);
  Vector a = zero, b = zero;
  const auto power = [&](std::int64_t j) { return exp2_of_codes(max(floor, sub(load(s + j), top))); };  // max keeps a NaN
  const auto nothing = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t j = from; j < to; j += kPanel) store_words(p + j, codes_of(zero), codes_of(zero));
  };
  // Outside of [begin, end) whatever is there, NaNs included, is nothing.
  const auto edge = [&](std::int64_t j) {
    Vector x[2];
    for (std::int64_t u = 0; u < 2; ++u) {
      const std::int64_t at = j + u * kLanes;
      const auto seen = [&](Vector v) { return select_first(begin - at, zero, select_first(end - at, v, zero)); };
      const Vector e = power(at);
      x[u] = seen(e);
      a = add(a, seen(mul(e, load(weights + at))));
    }
    store_words(p + j, codes_of(x[0]), codes_of(x[1]));
  };
  std::int64_t j = begin / kPanel * kPanel;
  nothing(0, j);
  if (j < begin) edge(j), j += kPanel;
  for (; j + kPanel <= end; j += kPanel) {
    const Vector x = power(j), y = power(j + kLanes);
    a = fma(x, load(weights + j), a);
    b = fma(y, load(weights + j + kLanes), b);
    store_words(p + j, codes_of(x), codes_of(y));
  }
  if (j < end) edge(j), j += kPanel;
  nothing(j, size);
  return add(a, b);
}

}  // namespace
}  // namespace aerogel
