// What attention in whole numbers is made of: codes of queries, keys and values, tiles of the two products, the softmax between. Over
// the vocabulary of an ops/math_<isa>.h, a few words on codes that the ISA file defines before it includes this
//
//     scaled_by_power(v, t)   v times two to the power that the low bits of t say
//     store_largest(p, most)  the largest lane of each of kLanes vectors
//     load_group, store_group, broadcast_group, to_floats
//
// and a kind of codes, a struct of the ISA file:
//
//     Code                    the type of codes of queries, keys and values
//     per                     codes of one group, 32 bits, whose products an instruction adds up: 2 or 4
//     step                    keys whose weights become codes together: a multiple of kPanel
//     offset                  what codes of queries are more than their numbers, where they are unsigned: 0 or 128
//     value_offset            the same of values
//     kind                    limits, bits and weights, as ops.h says them
//     dot(sum, a, b)          32-bit sums of the products of every group of a, queries, and b, keys
//     weigh(sum, a, b)        the same of a, weights, and b, values
//     store_keys(p, a, b)     2 kLanes integers as codes, saturated, in an order of its own, which that of queries is too
//     store_queries(p, a, b)  the same, with the offset
//     store_weights(p, x)     `step` integers of weights as codes, in an order of their own
//     key_of(g)               the first key of group g of these
//     join(codes)             the low parts of `per` vectors of integers as groups
//
// ops.h says what the codes are. A group is neighbours along what is summed over: of a row of q or k elements, of a column of v keys.
#pragma once

#include "ops/attention/body.h"

namespace aerogel {
namespace {

constexpr std::int64_t kChunk = kAttentionChunk;
constexpr std::int64_t kRows = 24;      // queries whose scores are held at a time
constexpr std::int64_t kQueries = 128;  // whose codes are
constexpr float kNothing = -1e30f;      // the largest score of no keys

// ---- codes -------------------------------------------------------------------------------------------------------

// The bits of the largest magnitude of each of rows x[d], up to the next multiple of kLanes; those of a NaN if there is one.
inline void largest_of_rows(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t d, std::uint32_t* bits) {
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    Bits most[kLanes];
    for (std::int64_t i = 0; i < kLanes; ++i) {
      const float* const row = x + at_most(r + i, rows - 1) * ld;
      if (r + i + kAhead < rows) prefetch_row(row + kAhead * ld, d);
      most[i] = magnitude_bits(splat(0.0f));
      std::int64_t c = 0;
      for (; c + kLanes <= d; c += kLanes) most[i] = max(most[i], magnitude_bits(load(row + c)));
      if (c < d) most[i] = max(most[i], magnitude_bits(load_first(row + c, d - c)));
    }
    store_largest(bits + r, most);
  }
}

// Rows as codes [rows][d, padded with codes of 0 to a multiple of kPanel], each with a scale of its own.
template <class Codes, bool queries>
inline void code_rows(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t d, typename Codes::Code* codes, float* scales) {
  const std::int64_t width = padded(d, kPanel);
  const float limit = Codes::kind.limit(d);
  std::uint32_t bits[kChunk], least;
  float largest[kChunk], factors[kChunk];
  largest_of_rows(x, ld, rows, d, bits);
  // Plain loops over arrays, which compilers turn into vectors: a division a row would take as long as its codes.
  __builtin_memcpy(&least, &kLeastMagnitude, sizeof least);
  std::uint32_t clipped[kChunk] = {}, spoilt[kChunk];
  for (std::int64_t r = 0; r < rows; ++r) clipped[r] = bits[r] < least ? least : bits[r];
  // Of an infinity the code has no sign: a score of it could be the wrong one.
  for (std::int64_t r = 0; r < rows; ++r) spoilt[r] = bits[r] >= kInfinityBits ? 0x7fc00000u : 0u;
  __builtin_memcpy(largest, clipped, sizeof largest);
  for (std::int64_t r = 0; r < rows; ++r) factors[r] = limit / largest[r];
  for (std::int64_t r = 0; r < rows; ++r) largest[r] = largest[r] / limit;
  __builtin_memcpy(clipped, largest, sizeof largest);
  for (std::int64_t r = 0; r < rows; ++r) clipped[r] |= spoilt[r];
  __builtin_memcpy(scales, clipped, static_cast<std::size_t>(rows) * sizeof *scales);
  const auto put = [](typename Codes::Code* to, Bits a, Bits b) { queries ? Codes::store_queries(to, a, b) : Codes::store_keys(to, a, b); };
  for (std::int64_t r = 0; r < rows; ++r, x += ld, codes += width) {
    const Vector factor = broadcast(factors + r);
    std::int64_t c = 0;
    for (; c + kPanel <= d; c += kPanel) put(codes + c, codes_of(mul(load(x + c), factor)), codes_of(mul(load(x + c + kLanes), factor)));
    if (c < d) put(codes + c, codes_of(mul(load_first(x + c, d - c), factor)), codes_of(mul(load_first(x + c + kLanes, d - c - kLanes), factor)));
  }
}

// What the sums of scores start at, so that the offset of queries cancels: minus it times the sum of a key's codes.
template <class Codes>
inline void starts_of_keys(const std::int32_t* panels, std::int64_t keys, std::int64_t depth, std::int32_t* starts) {
  if constexpr (Codes::offset != 0) {
    const Bits none = codes_of(splat(0.0f)), offset = Codes::splat(Codes::offset);
    for (std::int64_t j = 0; j < keys; j += kPanel, panels += depth * kPanel)
      for (std::int64_t u = 0; u < kPanel; u += kLanes) {
        Bits sum = none;
        for (std::int64_t i = 0; i < depth; ++i) sum = Codes::dot(sum, offset, load_group(panels + i * kPanel + u));
        store_group(starts + j + u, sub(none, sum));
      }
  }
}

// Values as groups of keys, in panels [ceil(d/kPanel)][groups][kPanel], zeros behind the last key up to a multiple of `step`. exponents[j]:
// of the power of two that key j's are fractions of; weights[j]: that power's inverse, NaN if one of the values is no number or too large.
template <class Codes>
inline void group_values(const float* v, std::int64_t ldv, std::int64_t keys, std::int64_t d, std::int32_t* panels, float* exponents,
                         float* weights) {
  constexpr std::int64_t per = Codes::per, step = Codes::step;
  const std::int64_t all = padded(keys, step);
  std::uint32_t bits[kChunk], of_weights[kChunk], of_factors[kChunk];
  float factors[kChunk];
  largest_of_rows(v, ldv, keys, d, bits);
  for (std::int64_t j = keys; j < all; ++j) bits[j] = 0;
  for (std::int64_t j = 0; j < all; ++j) {
    const std::int32_t exponent = value_exponent(bits[j]);
    exponents[j] = static_cast<float>(exponent);
    of_weights[j] = static_cast<std::uint32_t>(127 - exponent) << 23 | (bits[j] >= kTooLargeBits ? 0x7fc00000u : 0u);
    of_factors[j] = static_cast<std::uint32_t>(127 + Codes::kind.value_bits - exponent) << 23;
  }
  __builtin_memcpy(weights, of_weights, static_cast<std::size_t>(all) * sizeof *weights);
  __builtin_memcpy(factors, of_factors, static_cast<std::size_t>(all) * sizeof *factors);
  const Bits none = codes_of(splat(0.0f));
  for (std::int64_t j = 0; j < all; j += step)
    for (std::int64_t g = 0; g < step / per; ++g, panels += kPanel) {
      const std::int64_t first = j + Codes::key_of(g);
      const float* row[per];
      Vector factor[per];
#pragma GCC unroll 4
      for (std::int64_t i = 0; i < per; ++i) row[i] = v + at_most(first + i, keys - 1) * ldv, factor[i] = broadcast(factors + first + i);
      const bool some = first + per <= keys;
      std::int32_t* to = panels;
      std::int64_t c = 0;
      for (; some && c + kPanel <= d; c += kPanel, to += all / per * kPanel)
#pragma GCC unroll 2
        for (std::int64_t u = 0; u < kPanel; u += kLanes) {
          Bits code[per];
#pragma GCC unroll 4
          for (std::int64_t i = 0; i < per; ++i) code[i] = codes_of(mul(load(row[i] + c + u), factor[i]));
          store_group(to + u, Codes::join(code));
        }
      for (; c < d; c += kPanel, to += all / per * kPanel)
        for (std::int64_t u = 0; u < kPanel; u += kLanes) {
          Bits code[per];
#pragma GCC unroll 4
          for (std::int64_t i = 0; i < per; ++i) code[i] = first + i < keys ? codes_of(mul(load_first(row[i] + c + u, d - c - u), factor[i])) : none;
          store_group(to + u, Codes::join(code));
        }
    }
}

// ---- the two products --------------------------------------------------------------------------------------------

// sum[rows][vectors] += a[rows, depth groups] . panel[depth, kPanel groups]; values: of weights and values.
template <class Codes, bool values, int rows, int vectors>
inline void multiply_groups(const std::int32_t* a, std::int64_t lda, const std::int32_t* panel, std::int64_t depth, Bits (&sum)[rows][vectors]) {
  for (std::int64_t i = 0; i < depth; ++i) {
    Bits b[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) b[v] = load_group(panel + i * kPanel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Bits x = broadcast_group(a + r * lda + i);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[r][v] = values ? Codes::weigh(sum[r][v], x, b[v]) : Codes::dot(sum[r][v], x, b[v]);
    }
  }
}

// What the sums of values of rows [0, rows) start at, so that the offset of values cancels: minus it times the sum of a row's weights,
// of which there are `depth` groups, a multiple of kLanes.
template <class Codes>
inline void starts_of_rows(const std::int32_t* p, std::int64_t ldp, std::int64_t rows, std::int64_t depth, std::int32_t* starts) {
  for (std::int64_t r = 0; r < rows; ++r) {
    Bits sums = codes_of(splat(0.0f));
    for (std::int64_t i = 0; i < depth; i += kLanes) sums = Codes::weigh(sums, load_group(p + r * ldp + i), Codes::splat(1));
    std::int32_t lanes[kLanes], sum = 0;
    store_group(lanes, sums);
    for (std::int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
    starts[r] = -Codes::value_offset * sum;
  }
}

// What is known of the keys of a panel.
struct PanelKeys {
  const float* scales;
  const float* exponents;
  const std::int32_t* starts;  // where codes have an offset
};

// scores[rows, kLanes vectors] = q . a K panel, as exponents of two: times both scales, plus the exponents of the values.
template <class Codes, int rows, int vectors>
void code_scores(const std::int32_t* q, std::int64_t ldq, const std::int32_t* panel, std::int64_t depth, const float* of_queries,
                 const PanelKeys& keys, float* scores, std::int64_t lds) {
  Bits sum[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      if constexpr (Codes::offset != 0) sum[r][v] = load_group(keys.starts + v * kLanes);
      else sum[r][v] = codes_of(splat(0.0f));
    }
  multiply_groups<Codes, false>(q, ldq, panel, depth, sum);
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) {
    const Vector scale = load(keys.scales + v * kLanes), more = load(keys.exponents + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      store(scores + r * lds + v * kLanes, fma(mul(to_floats(sum[r][v]), scale), broadcast(of_queries + r), more));
  }
}

// What is known of the queries of a tile.
struct TileRows {
  const float *keep, *take;
  const std::int32_t* starts;  // where values have an offset
};

// y[rows, columns] = keep[rows] * y + take[rows] * (p[rows, depth groups] . a V panel); without keep: y is only written.
template <class Codes, int rows, int vectors, bool keeps>
void code_values(const std::int32_t* p, std::int64_t ldp, const std::int32_t* panel, std::int64_t depth, const TileRows& of,
                 float* y, std::int64_t ldy, std::int64_t columns) {
  Bits sum[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      if constexpr (Codes::value_offset != 0) sum[r][v] = broadcast_group(of.starts + r);
      else sum[r][v] = codes_of(splat(0.0f));
    }
  multiply_groups<Codes, true>(p, ldp, panel, depth, sum);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Vector factor = broadcast(of.take + r);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      float* const to = y + r * ldy + v * kLanes;
      Vector out = mul(to_floats(sum[r][v]), factor);
      if (keeps) out = fma(load_first(to, columns - v * kLanes), broadcast(of.keep + r), out);
      store_first(to, out, columns - v * kLanes);
    }
  }
}

using CodeScores = void (*)(const std::int32_t*, std::int64_t, const std::int32_t*, std::int64_t, const float*, const PanelKeys&, float*,
                            std::int64_t);
using CodeValues = void (*)(const std::int32_t*, std::int64_t, const std::int32_t*, std::int64_t, const TileRows&, float*, std::int64_t,
                            std::int64_t);

// Tiles of rows = 1 .. tile and columns in one or two vectors.
template <class Codes, int tile, int rows = 1>
struct CodeTiles {
  using Higher = CodeTiles<Codes, tile, (rows < tile ? rows + 1 : rows)>;
  static CodeScores score(std::int64_t height, std::int64_t columns) {
    if (height > rows) return Higher::score(height, columns);
    return columns > kLanes ? code_scores<Codes, rows, 2> : code_scores<Codes, rows, 1>;
  }
  static CodeValues value(std::int64_t height, std::int64_t columns, bool keeps) {
    if (height > rows) return Higher::value(height, columns, keeps);
    if (keeps) return columns > kLanes ? code_values<Codes, rows, 2, true> : code_values<Codes, rows, 1, true>;
    return columns > kLanes ? code_values<Codes, rows, 2, false> : code_values<Codes, rows, 1, false>;
  }
};

// ---- softmax -----------------------------------------------------------------------------------------------------

// 2^t for codes, t in [-100, 12]: by degree 3, relative error 1.0e-4; 2^0 = 1.
inline Vector exp2_of_codes(Vector t) {
  const Vector bias = splat(12582912.0f), shifted = add(t, bias);
  const Vector f = sub(t, sub(shifted, bias));
  return scaled_by_power(fma(fma(fma(f, splat(0.05500893f), splat(0.24221096f)), f, splat(0.69328293f)), f, splat(1.0f)), shifted);
}

// Scores s[begin, end) of a row become codes p[0, size) in their place, in the order of store_weights, size a multiple of `step`:
// round(W * 2^(s - largest)) with W = kind.weight, 0 outside. Returns the sum of weights * W * 2^(s - largest), lane by lane.
template <class Codes>
inline Vector code_powers(float* s, std::int64_t begin, std::int64_t end, std::int64_t size, float largest, const float* weights) {
  constexpr std::int64_t step = Codes::step, count = step / kLanes;
  const Vector top = splat(largest - Codes::kind.log2_weight), floor = splat(-100.0f), zero = splat(0.0f);
  typename Codes::Code* const p = reinterpret_cast<typename Codes::Code*>(s);
  Vector sum[2] = {zero, zero};
  const auto power = [&](std::int64_t j) { return exp2_of_codes(max(floor, sub(load(s + j), top))); };  // max keeps a NaN
  const auto nothing = [&](std::int64_t from, std::int64_t to) {
    Bits none[count];
#pragma GCC unroll 8
    for (std::int64_t u = 0; u < count; ++u) none[u] = codes_of(zero);
    for (std::int64_t j = from; j < to; j += step) Codes::store_weights(p + j, none);
  };
  // Outside of [begin, end) whatever is there, NaNs included, is nothing.
  const auto edge = [&](std::int64_t j) {
    Bits x[count];
#pragma GCC unroll 8
    for (std::int64_t u = 0; u < count; ++u) {
      const std::int64_t at = j + u * kLanes;
      const auto seen = [&](Vector v) { return select_first(begin - at, zero, select_first(end - at, v, zero)); };
      const Vector e = power(at);
      x[u] = codes_of(seen(e));
      sum[u % 2] = add(sum[u % 2], seen(mul(e, load(weights + at))));
    }
    Codes::store_weights(p + j, x);
  };
  std::int64_t j = begin / step * step;
  nothing(0, j);
  if (j < begin) edge(j), j += step;
  for (; j + step <= end; j += step) {
    Bits x[count];
#pragma GCC unroll 8
    for (std::int64_t u = 0; u < count; ++u) {
      const Vector e = power(j + u * kLanes);
      sum[u % 2] = fma(e, load(weights + j + u * kLanes), sum[u % 2]);
      x[u] = codes_of(e);
    }
    Codes::store_weights(p + j, x);
  }
  if (j < end) edge(j), j += step;
  nothing(j, size);
  return add(sum[0], sum[1]);
}

}  // namespace
}  // namespace aerogel
