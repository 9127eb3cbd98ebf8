// What kernels of attention are made of: packing, tiles of the two products, softmax. Over the vocabulary of an ops/math_<isa>.h,
// which is included before; body.h says how they are put together.
#pragma once

#include "base/stop.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr std::int64_t kPanel = 2 * kLanes;
constexpr std::int64_t kBlock = 48;
constexpr std::int64_t kMany = 8192;  // keys of which a part takes long enough to ask in the middle whether to stop
constexpr std::int64_t kAhead = 8;  // rows that are prefetched while one is packed
constexpr int kSquare = sizeof(Vector8) / sizeof(float);

inline std::int64_t at_most(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t at_least(std::int64_t a, std::int64_t b) { return a < b ? b : a; }
inline std::int64_t padded(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

template <class T>
inline void prefetch_row(const T* row, std::int64_t d) {
  for (std::int64_t c = 0; c < d; c += 64 / static_cast<std::int64_t>(sizeof(T))) prefetch(row + c);
}

// kLanes elements as floats, and the first n of them, where memory beyond n is not touched.
inline Vector widen(const float* p) { return load(p); }
inline Vector widen(const std::uint16_t* p) { return load_f16(p); }
inline Vector widen(const std::int8_t* p) { return load_q8(p); }
inline Vector widen_first(const float* p, std::int64_t n) { return load_first(p, n); }
template <class T>
inline Vector widen_first(const T* p, std::int64_t n) {
  if (n >= kLanes) return widen(p);
  T some[kLanes] = {};
  __builtin_memcpy(some, p, static_cast<std::size_t>(n) * sizeof(T));
  return widen(some);
}

// ---- packing -----------------------------------------------------------------------------------------------------

// out[c * ld + r] = rows[r][column + c], r and c < kSquare
inline void transpose_square(const float* const* rows, std::int64_t column, float* out, std::int64_t ld) {
  Vector8 row[kSquare];
#pragma GCC unroll 8
  for (int r = 0; r < kSquare; ++r) load(rows[r] + column, row[r]);
  transpose(row);
#pragma GCC unroll 8
  for (int c = 0; c < kSquare; ++c) store(out + c * ld, row[c]);
}

// Columns beyond the last key repeat it: nobody reads their scores.
void pack_keys(const float* k, std::int64_t ldk, std::int64_t keys, std::int64_t d, float* out) {
  for (std::int64_t j = 0; j < keys; j += kPanel, out += kPanel * d)
    for (std::int64_t part = 0; part < kPanel; part += kSquare) {
      const float* rows[kSquare];
      for (std::int64_t r = 0; r < kSquare; ++r) {
        rows[r] = k + at_most(j + part + r, keys - 1) * ldk;
        if (j + part + r + kSquare < keys) prefetch_row(rows[r] + kSquare * ldk, d);
      }
      std::int64_t c = 0;
      for (; c + kSquare <= d; c += kSquare) transpose_square(rows, c, out + c * kPanel + part, kPanel);
      for (; c < d; ++c)
        for (std::int64_t r = 0; r < kSquare; ++r) out[c * kPanel + part + r] = rows[r][c];
    }
}

void pack_values(const float* values, std::int64_t ldv, std::int64_t keys, std::int64_t d, float* out) {
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = values + j * ldv;
    if (j + kAhead < keys) prefetch_row(v + kAhead * ldv, d);
    float* to = out + j * kPanel;
    std::int64_t c = 0;
    for (; c + kPanel <= d; c += kPanel, to += keys * kPanel) {
      store(to, load(v + c));
      store(to + kLanes, load(v + c + kLanes));
    }
    if (c < d) {
      store(to, load_first(v + c, d - c));
      store(to + kLanes, load_first(v + c + kLanes, d - c - kLanes));
    }
  }
}

// Times a factor, with which scores come out as exponents of two, or as the arguments of a tanh.
void pack_queries(const float* q, std::int64_t ldq, std::int64_t rows, std::int64_t d, float scale, float* out) {
  const Vector factor = splat(scale);
  for (std::int64_t r = 0; r < rows; ++r, q += ldq, out += d) {
    if (r + kAhead < rows) prefetch_row(q + kAhead * ldq, d);
    std::int64_t c = 0;
    for (; c + kLanes <= d; c += kLanes) store(out + c, mul(load(q + c), factor));
    if (c < d) store_first(out + c, mul(load_first(q + c, d - c), factor), d - c);
  }
}

constexpr float kLog2E = 1.44269504f;

// ---- the two products --------------------------------------------------------------------------------------------

template <int rows, int vectors>
inline void clear(Vector (&sum)[rows][vectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[r][v] = splat(0.0f);
}

// sum[rows][vectors] += a[rows, depth] . panel[depth, ...]
template <int rows, int vectors>
inline void multiply(const float* a, std::int64_t lda, const float* panel, std::int64_t ldb, std::int64_t depth,
                     Vector (&sum)[rows][vectors]) {
  for (std::int64_t i = 0; i < depth; ++i) {
    Vector b[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) b[v] = load(panel + i * ldb + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vector x = broadcast(a + r * lda + i);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[r][v] = fma(x, b[v], sum[r][v]);
    }
  }
}

// scores[rows, kLanes vectors] = q[rows, d] . a K panel
template <int rows, int vectors>
void score_tile(const float* q, const float* panel, std::int64_t d, float* scores, std::int64_t lds) {
  Vector sum[rows][vectors];
  clear(sum);
  multiply(q, d, panel, kPanel, d, sum);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) store(scores + r * lds + v * kLanes, sum[r][v]);
}

// y[rows, columns] = (p[rows, keys] . a V panel) * inverse[rows]; row r sees min(r, more) keys behind these `keys`, and
// min(rows - 1 - r, less) before them, where there is a window.
template <int rows, int vectors, bool windowed>
void value_tile(const float* p, std::int64_t ldp, const float* panel, std::int64_t ldb, std::int64_t keys, std::int64_t more,
                std::int64_t less, const float* inverse, float* y, std::int64_t ldy, std::int64_t columns) {
  Vector sum[rows][vectors];
  clear(sum);
  multiply(p, ldp, panel, ldb, keys, sum);
  if (more > 0) {
#pragma GCC unroll 16
    for (int m = 1; m < rows; ++m) {
      if (m > more) break;
      const std::int64_t key = keys + m - 1;
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const Vector b = load(panel + key * ldb + v * kLanes);
#pragma GCC unroll 16
        for (int r = m; r < rows; ++r) sum[r][v] = fma(broadcast(p + r * ldp + key), b, sum[r][v]);
      }
    }
  }
  if (windowed && less > 0) {
#pragma GCC unroll 16
    for (int m = 1; m < rows; ++m) {
      if (m > less) break;
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const Vector b = load(panel - m * ldb + v * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < rows - m; ++r) sum[r][v] = fma(broadcast(p + r * ldp - m), b, sum[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Vector factor = broadcast(inverse + r);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      store_first(y + r * ldy + v * kLanes, mul(sum[r][v], factor), columns - v * kLanes);
  }
}

using ScoreTile = void (*)(const float*, const float*, std::int64_t, float*, std::int64_t);
using ValueTile = void (*)(const float*, std::int64_t, const float*, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                           const float*, float*, std::int64_t, std::int64_t);

// Tiles of rows = 1 .. tile and columns in one or two vectors.
template <int tile, bool windowed, int rows = 1>
struct Tiles {
  using Higher = Tiles<tile, windowed, (rows < tile ? rows + 1 : rows)>;
  static ScoreTile score(std::int64_t height, std::int64_t columns) {
    if (height > rows) return Higher::score(height, columns);
    return columns > kLanes ? score_tile<rows, 2> : score_tile<rows, 1>;
  }
  static ValueTile value(std::int64_t height, std::int64_t columns) {
    if (height > rows) return Higher::value(height, columns);
    return columns > kLanes ? value_tile<rows, 2, windowed> : value_tile<rows, 1, windowed>;
  }
};

// Rows in tiles of nearly equal height: a low tile cannot hide the latency of a multiply-add.
template <int tile>
struct Cut {
  std::int64_t tiles, low, higher;  // `higher` tiles of low + 1 rows, then those of `low`
  explicit Cut(std::int64_t rows) : tiles((rows + tile - 1) / tile), low(rows / tiles), higher(rows - low * tiles) {}
  // f(first row, rows)
  template <class F>
  void each(const F& f) const {
    for (std::int64_t t = 0, begin = 0; t < tiles; ++t) {
      const std::int64_t height = low + (t < higher);
      f(begin, height);
      begin += height;
    }
  }
};

// ---- softmax -----------------------------------------------------------------------------------------------------

// The largest of s[n]. Elements n .. round_up(n, kLanes) are writable and become s[0], which changes no maximum.
inline float largest_of(float* s, std::int64_t n) {
  const std::int64_t whole = n / kLanes * kLanes;
  if (whole < n) store(s + whole, select_first(n - whole, load(s + whole), broadcast(s)));
  Vector a = broadcast(s), b = a;
  std::int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    a = max(a, load(s + j));
    b = max(b, load(s + j + kLanes));
  }
  for (; j < n; j += kLanes) a = max(a, load(s + j));
  return max_lanes(max(a, b));
}

// s[n] becomes 2^(s - largest), elements n .. round_up(n, kLanes) 0; returns the sum, lane by lane.
inline Vector powers(float* s, std::int64_t n, float largest) {
  const Vector top = splat(largest), floor = splat(-127.0f);  // 2^-127 comes out as 0
  const auto power = [&](std::int64_t at) { return exp2(max(floor, sub(load(s + at), top))); };  // max keeps a NaN
  Vector a = splat(0.0f), b = a;
  std::int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    const Vector p0 = power(j), p1 = power(j + kLanes);
    store(s + j, p0);
    store(s + j + kLanes, p1);
    a = add(a, p0);
    b = add(b, p1);
  }
  for (; j < n; j += kLanes) {
    Vector p = power(j);
    if (n - j < kLanes) p = select_first(n - j, p, splat(0.0f));
    store(s + j, p);
    a = add(a, p);
  }
  return add(a, b);
}

// Row r, elements [first(r), end(r)) of scores + r * lds, becomes 2^(s - max); inverse[r] = 1 / its sum. inverse has room for a
// multiple of 4. Each step takes all rows before the next one, so that the processor need not wait for the lanes of one row to
// come together. level[r], where it is wanted: log2 of the sum of 2^s.
template <class First, class End>
inline void softmax(float* scores, std::int64_t lds, std::int64_t rows, const First& first, const End& end, float* inverse,
                    float* level = nullptr) {
  for (std::int64_t r = 0; r < rows; ++r) inverse[r] = largest_of(scores + r * lds + first(r), end(r) - first(r));
  if (level != nullptr)
    for (std::int64_t r = 0; r < rows; ++r) level[r] = inverse[r];
  for (std::int64_t r = 0; r < rows; r += 4) {
    Vector sum[4];
    for (std::int64_t i = 0; i < 4; ++i)
      sum[i] = r + i < rows ? powers(scores + (r + i) * lds + first(r + i), end(r + i) - first(r + i), inverse[r + i]) : splat(1.0f);
    store_sums_of_four(inverse + r, sum[0], sum[1], sum[2], sum[3]);
    for (std::int64_t i = 0; i < 4; ++i) {
      if (level != nullptr && r + i < rows && level[r + i] != -__builtin_inff()) level[r + i] += __builtin_log2f(inverse[r + i]);
      inverse[r + i] = 1.0f / inverse[r + i];
    }
  }
}

}  // namespace
}  // namespace aerogel
