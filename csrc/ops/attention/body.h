// Attention as two small matrix products around a softmax, over the vocabulary of an ops/math_<isa>.h, which is included before. `tile`
// is the rows of queries in a register tile (times two vectors of columns).
//
// From kPack queries on, everything is first packed, so that both products read straight streams (q, k and v are slices
// of wide rows, whose strides collide in L1, and whose pages no hardware prefetcher crosses). With P = two vectors:
//
//     K panels  [ceil(keys/P)][d][P]         column = key
//     V panels  [ceil(d/P)][keys][P]         column = element of v
//     queries   [block][d]                   times scale * log2 e, so that the softmax is one of powers of two
//     scores    [block][padded keys + P]     a block of up to 48 queries; under 128 KB, a share of L2
//
// Queries times K panels gives scores, softmax happens in place, scores times V panels gives y; the sums' inverse is
// multiplied on the way out of the registers.
//
// With fewer queries (decode) packing would cost more than it gains: k and v are read where they are, once for up to kSharing
// query heads that share them.
//
// Causal: a tile multiplies with the keys its first query sees, and then key by key with the rows that see more: keys
// that a query does not see never touch it, not even times 0.

#pragma once

#include "base/stop.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr std::int64_t kPanel = 2 * kLanes;
constexpr std::int64_t kBlock = 48;
constexpr std::int64_t kPack = 5;
constexpr std::int64_t kFew = 32;   // keys whose values need no packing
constexpr std::int64_t kMany = 8192;  // keys of which a part takes long enough to ask in the middle whether to stop
constexpr std::int64_t kAhead = 8;  // rows that are prefetched while one is packed
constexpr int kSquare = sizeof(Vector8) / sizeof(float);

inline std::int64_t at_most(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t padded(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

// Keys that query i sees.
inline std::int64_t seen(const AttentionTask& task, std::int64_t i) {
  return task.causal ? at_most(task.keys, task.position + i + 1) : task.keys;
}

inline void prefetch_row(const float* row, std::int64_t d) {
  for (std::int64_t c = 0; c < d; c += 16) prefetch(row + c);
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
void pack_keys(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; j += kPanel, out += kPanel * task.d)
    for (std::int64_t part = 0; part < kPanel; part += kSquare) {
      const float* rows[kSquare];
      for (std::int64_t r = 0; r < kSquare; ++r) {
        rows[r] = task.k + at_most(j + part + r, keys - 1) * task.ldk;
        if (j + part + r + kSquare < keys) prefetch_row(rows[r] + kSquare * task.ldk, task.d);
      }
      std::int64_t c = 0;
      for (; c + kSquare <= task.d; c += kSquare) transpose_square(rows, c, out + c * kPanel + part, kPanel);
      for (; c < task.d; ++c)
        for (std::int64_t r = 0; r < kSquare; ++r) out[c * kPanel + part + r] = rows[r][c];
    }
}

void pack_values(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = task.v + j * task.ldv;
    if (j + kAhead < keys) prefetch_row(v + kAhead * task.ldv, task.d);
    float* to = out + j * kPanel;
    std::int64_t c = 0;
    for (; c + kPanel <= task.d; c += kPanel, to += keys * kPanel) {
      store(to, load(v + c));
      store(to + kLanes, load(v + c + kLanes));
    }
    if (c < task.d) {
      store(to, load_first(v + c, task.d - c));
      store(to + kLanes, load_first(v + c + kLanes, task.d - c - kLanes));
    }
  }
}

// Times the scale and log2 e: scores come out as exponents of two.
void pack_queries(const float* q, std::int64_t ldq, std::int64_t rows, std::int64_t d, float scale, float* out) {
  const Vector factor = splat(scale * 1.44269504f);
  for (std::int64_t r = 0; r < rows; ++r, q += ldq, out += d) {
    if (r + kAhead < rows) prefetch_row(q + kAhead * ldq, d);
    std::int64_t c = 0;
    for (; c + kLanes <= d; c += kLanes) store(out + c, mul(load(q + c), factor));
    if (c < d) store_first(out + c, mul(load_first(q + c, d - c), factor), d - c);
  }
}

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

// y[rows, columns] = (p[rows, keys] . a V panel) * inverse[rows]; row r sees min(r, more) keys beyond the first `keys`.
template <int rows, int vectors>
void value_tile(const float* p, std::int64_t ldp, const float* panel, std::int64_t ldb, std::int64_t keys, std::int64_t more,
                const float* inverse, float* y, std::int64_t ldy, std::int64_t columns) {
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
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Vector factor = broadcast(inverse + r);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      store_first(y + r * ldy + v * kLanes, mul(sum[r][v], factor), columns - v * kLanes);
  }
}

using ScoreTile = void (*)(const float*, const float*, std::int64_t, float*, std::int64_t);
using ValueTile = void (*)(const float*, std::int64_t, const float*, std::int64_t, std::int64_t, std::int64_t, const float*, float*,
                           std::int64_t, std::int64_t);

// Tiles of rows = 1 .. tile and columns in one or two vectors.
template <int tile, int rows = 1>
struct Tiles {
  static ScoreTile score(std::int64_t height, std::int64_t columns) {
    if (height > rows) return Tiles<tile, (rows < tile ? rows + 1 : rows)>::score(height, columns);
    return columns > kLanes ? score_tile<rows, 2> : score_tile<rows, 1>;
  }
  static ValueTile value(std::int64_t height, std::int64_t columns) {
    if (height > rows) return Tiles<tile, (rows < tile ? rows + 1 : rows)>::value(height, columns);
    return columns > kLanes ? value_tile<rows, 2> : value_tile<rows, 1>;
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
  if (j < n) a = max(a, load(s + j));
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

// Row r, of length(r), becomes 2^(s - max); inverse[r] = 1 / its sum. inverse has room for a multiple of 4. Each step takes all
// rows before the next one, so that the processor need not wait for the lanes of one row to come together.
template <class Length>
inline void softmax(float* scores, std::int64_t lds, std::int64_t rows, const Length& length, float* inverse) {
  for (std::int64_t r = 0; r < rows; ++r) inverse[r] = largest_of(scores + r * lds, length(r));
  for (std::int64_t r = 0; r < rows; r += 4) {
    Vector sum[4];
    for (std::int64_t i = 0; i < 4; ++i)
      sum[i] = r + i < rows ? powers(scores + (r + i) * lds, length(r + i), inverse[r + i]) : splat(1.0f);
    store_sums_of_four(inverse + r, sum[0], sum[1], sum[2], sum[3]);
    for (std::int64_t i = 0; i < 4; ++i) inverse[r + i] = 1.0f / inverse[r + i];
  }
}

// ---- many queries ------------------------------------------------------------------------------------------------

// Fetches the rows of a matrix a few at a time, between tiles of a product that leaves the memory idle.
struct Ahead {
  const float* row;
  std::int64_t ld, left, d;
  void some() {
    for (int r = 0; r < 2 && left > 0; ++r, --left, row += ld) prefetch_row(row, d);
  }
};

template <int tile>
void attend_packed(const AttentionTask& task) {
  const std::int64_t d = task.d, keys = seen(task, task.queries - 1), lds = padded(keys, kPanel) + kPanel;
  std::int64_t block = kBlock;
  while (block > tile && block * lds > 32768) block -= tile;
  float* k_panels = static_cast<float*>(task.scratch);
  float* packed_values = k_panels + padded(keys, kPanel) * d;
  float* scores = packed_values + keys * padded(d, kPanel);
  float* queries = scores + at_most(block, task.queries) * lds;
  pack_keys(task, keys, k_panels);
  // A few values are read where they are, if that never reaches beyond their rows.
  const bool in_place = keys <= kFew && d % kLanes == 0;
  const float* values = in_place ? task.v : packed_values;
  const std::int64_t value_ld = in_place ? task.ldv : kPanel, value_step = in_place ? 1 : keys;
  Ahead value_rows{task.v, task.ldv, keys, d}, next_keys{task.next_k, task.ldk, task.next_k == nullptr ? 0 : keys, d};

  for (std::int64_t head = 0; head < task.heads; ++head)
    for (std::int64_t first = 0; first < task.queries; first += block) {
      if (keys > kMany && stop_requested()) return;
      const std::int64_t rows = at_most(block, task.queries - first);
      const Cut<tile> cut(rows);
      pack_queries(task.q + head * d + first * task.ldq, task.ldq, rows, d, task.scale, queries);
      for (std::int64_t j = 0; j < seen(task, first + rows - 1); j += kPanel)
        cut.each([&](std::int64_t r, std::int64_t height) {
          const std::int64_t columns = seen(task, first + r + height - 1) - j;
          value_rows.some();
          if (columns > 0)
            Tiles<tile>::score(height, columns)(queries + r * d, k_panels + j * d, d, scores + r * lds + j, lds);
        });
      float inverse[kBlock];
      softmax(scores, lds, rows, [&](std::int64_t r) { return seen(task, first + r); }, inverse);
      if (head == 0 && first == 0 && !in_place) pack_values(task, keys, packed_values);
      Ahead more_queries{task.q + head * d + (first + block) * task.ldq, task.ldq, at_most(block, task.queries - first - block), d};
      for (std::int64_t c = 0; c < d; c += kPanel)
        cut.each([&](std::int64_t r, std::int64_t height) {
          const std::int64_t shared = seen(task, first + r), more = seen(task, first + r + height - 1) - shared;
          more_queries.some();
          next_keys.some();
          Tiles<tile>::value(height, d - c)(scores + r * lds, lds, values + c * value_step, value_ld, shared, more, inverse + r,
                                        task.y + head * d + (first + r) * task.ldy + c, task.ldy, d - c);
        });
    }
}

// ---- few queries -------------------------------------------------------------------------------------------------

constexpr int kSharing = 3;  // query heads at once: 12 sums fill the registers of the smaller instruction sets
constexpr std::int64_t kFar = 16;  // rows of a cache that are asked for ahead of time

// p[heads, keys] = q[heads, d] . k[keys, d]^T, the elements of d on the lanes. Keys in steps of `strands`.
template <int heads, int strands>
void few_scores(const float* q, const AttentionTask& task, std::int64_t keys, float* p, std::int64_t ldp) {
  const std::int64_t d = task.d;
  for (std::int64_t j = 0; j < keys; j += strands) {
    const float* k[strands];
    for (int r = 0; r < strands; ++r) {
      k[r] = task.k + at_most(j + r, keys - 1) * task.ldk;
      // The values too: they are next, and this loop leaves the memory more time.
      if (j + r + kFar < keys) prefetch_row(k[r] + kFar * task.ldk, d);
      if (j + r < keys) prefetch_row(task.v + (j + r) * task.ldv, d);
    }
    Vector sum[heads][strands];
    clear(sum);
    std::int64_t c = 0;
    for (; c + kLanes <= d; c += kLanes) {
      Vector x[heads];
#pragma GCC unroll 16
      for (int h = 0; h < heads; ++h) x[h] = load(q + h * d + c);
#pragma GCC unroll 16
      for (int r = 0; r < strands; ++r) {
        const Vector row = load(k[r] + c);
#pragma GCC unroll 16
        for (int h = 0; h < heads; ++h) sum[h][r] = fma(x[h], row, sum[h][r]);
      }
    }
    if (c < d) {
#pragma GCC unroll 16
      for (int r = 0; r < strands; ++r) {
        const Vector row = load_first(k[r] + c, d - c);
#pragma GCC unroll 16
        for (int h = 0; h < heads; ++h) sum[h][r] = fma(load_first(q + h * d + c, d - c), row, sum[h][r]);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < heads; ++h)
#pragma GCC unroll 16
      for (int r = 0; r < strands; r += 4) store_sums_of_four(p + h * ldp + j + r, sum[h][r], sum[h][r + 1], sum[h][r + 2], sum[h][r + 3]);
  }
}

// y[heads, columns] = inverse[heads] * p[heads, keys] . v[keys, columns], `strands` keys at once so that there are enough
// independent sums to hide the latency of a multiply-add.
template <int heads, int vectors, int strands>
void few_values(const float* p, std::int64_t ldp, std::int64_t keys, const float* v, std::int64_t ldv, const float* inverse,
                float* y, std::int64_t ldy, std::int64_t columns) {
  Vector sum[strands * heads][vectors];
  clear(sum);
  const auto row = [&](std::int64_t key, int u) {
    return vectors == 1 ? load_first(v + key * ldv, columns) : load(v + key * ldv + u * kLanes);
  };
  std::int64_t j = 0;
  for (; j + strands <= keys; j += strands)
#pragma GCC unroll 16
    for (int s = 0; s < strands; ++s)
#pragma GCC unroll 16
      for (int u = 0; u < vectors; ++u) {
        const Vector x = row(j + s, u);
#pragma GCC unroll 16
        for (int h = 0; h < heads; ++h) sum[s * heads + h][u] = fma(broadcast(p + h * ldp + j + s), x, sum[s * heads + h][u]);
      }
  for (; j < keys; ++j)
#pragma GCC unroll 16
    for (int u = 0; u < vectors; ++u) {
      const Vector x = row(j, u);
#pragma GCC unroll 16
      for (int h = 0; h < heads; ++h) sum[h][u] = fma(broadcast(p + h * ldp + j), x, sum[h][u]);
    }
#pragma GCC unroll 16
  for (int h = 0; h < heads; ++h)
#pragma GCC unroll 16
    for (int u = 0; u < vectors; ++u) {
      Vector total = sum[h][u];
#pragma GCC unroll 16
      for (int s = 1; s < strands; ++s) total = add(total, sum[s * heads + h][u]);
      store_first(y + h * ldy + u * kLanes, mul(total, broadcast(inverse + h)), columns - u * kLanes);
    }
}

// Query i of heads [head, head + heads).
template <int heads>
void attend_few(const AttentionTask& task, std::int64_t i, std::int64_t head) {
  const std::int64_t d = task.d, keys = seen(task, i), ldp = padded(keys, 8) + kPanel;
  float* p = static_cast<float*>(task.scratch);
  float* q = p + heads * ldp;
  pack_queries(task.q + i * task.ldq + head * d, d, heads, d, task.scale, q);
  few_scores<heads, heads == 1 ? 8 : 4>(q, task, keys, p, ldp);
  float inverse[4];
  softmax(p, ldp, heads, [&](std::int64_t) { return keys; }, inverse);
  float* y = task.y + i * task.ldy + head * d;
  std::int64_t c = 0;
  const auto columns = [&](auto tile, int vectors) {
    const std::int64_t width = vectors * kLanes;
    for (; c + width <= d || (vectors == 1 && c < d); c += width)
      tile(p, ldp, keys, task.v + c, task.ldv, inverse, y + c, d, at_most(width, d - c));
  };
  if (heads == 1) columns(few_values<heads, 8, 1>, 8);
  columns(few_values<heads, 4, heads == 1 ? 2 : 1>, 4);
  columns(few_values<heads, 2, heads == 1 ? 4 : 2>, 2);
  columns(few_values<heads, 1, heads == 1 ? 8 : 4>, 1);
}

template <int tile>
void attend(const AttentionTask& task) {
  if (task.queries >= kPack) return attend_packed<tile>(task);
  const std::int64_t groups = (task.heads + kSharing - 1) / kSharing;
  for (std::int64_t i = 0; i < task.queries; ++i)
    for (std::int64_t g = 0, head = 0; g < groups; ++g) {
      const std::int64_t next = task.heads * (g + 1) / groups;
      if (next - head == 1) attend_few<1>(task, i, head);
      else if (next - head == 2) attend_few<2>(task, i, head);
      else attend_few<3>(task, i, head);
      head = next;
    }
}

}  // namespace
}  // namespace aerogel
