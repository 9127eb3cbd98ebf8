// Attention as two small matrix products around a softmax.
//
// From kPack queries on, keys and values are first packed into panels of 16 columns, which both products then read
// as a straight stream (q, k and v are slices of wide rows, whose strides collide in L1):
//
//     K panels  [ceil(keys/16)][d][16]         column = key
//     V panels  [ceil(d/16)][keys][16]         column = element of v
//
// A block of up to 48 queries is multiplied with the K panels into scores [block][padded keys + 16], in tiles of 6 rows
// by 2 vectors (12 accumulators, 2 loads, 1 broadcast: 8 loads for 12 multiply-adds, so bound by the two FMA ports); softmax
// in place; then the same tile multiplies the scores with the V panels. Scores stay under 128 KB, a share of L2.
// Measured on Zen 3, 128 tokens, of a 96-104 GFLOP/s peak: 69 with d = 32, 78 with d = 64, 82 with d = 128.
//
// With fewer queries (decode) packing would cost more than it gains: k and v are read where they are, once a query.
//
// Causal: a tile multiplies with the keys its first query sees, and then key by key with the rows that see more: keys
// that a query does not see never touch it, not even times 0.
#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr std::int64_t kPanel = 16;
constexpr std::int64_t kTile = 6;
constexpr std::int64_t kBlock = 48;
constexpr std::int64_t kPack = 5;

inline std::int64_t at_most(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t padded(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

// Keys that query i sees.
inline std::int64_t seen(const AttentionTask& task, std::int64_t i) {
  return task.causal ? at_most(task.keys, task.first_key_limit + i + 1) : task.keys;
}

// ---- packing -----------------------------------------------------------------------------------------------------

// rows[r] becomes column r of out, an 8 x 8 block; out has kPanel columns.
inline void transpose8(const __m256* rows, float* out, std::int64_t count) {
  const __m256 a0 = _mm256_unpacklo_ps(rows[0], rows[1]), a1 = _mm256_unpackhi_ps(rows[0], rows[1]);
  const __m256 a2 = _mm256_unpacklo_ps(rows[2], rows[3]), a3 = _mm256_unpackhi_ps(rows[2], rows[3]);
  const __m256 a4 = _mm256_unpacklo_ps(rows[4], rows[5]), a5 = _mm256_unpackhi_ps(rows[4], rows[5]);
  const __m256 a6 = _mm256_unpacklo_ps(rows[6], rows[7]), a7 = _mm256_unpackhi_ps(rows[6], rows[7]);
  const __m256 b0 = _mm256_shuffle_ps(a0, a2, 0x44), b1 = _mm256_shuffle_ps(a0, a2, 0xee);
  const __m256 b2 = _mm256_shuffle_ps(a1, a3, 0x44), b3 = _mm256_shuffle_ps(a1, a3, 0xee);
  const __m256 b4 = _mm256_shuffle_ps(a4, a6, 0x44), b5 = _mm256_shuffle_ps(a4, a6, 0xee);
  const __m256 b6 = _mm256_shuffle_ps(a5, a7, 0x44), b7 = _mm256_shuffle_ps(a5, a7, 0xee);
  const __m256 c[8] = {_mm256_permute2f128_ps(b0, b4, 0x20), _mm256_permute2f128_ps(b1, b5, 0x20),
                       _mm256_permute2f128_ps(b2, b6, 0x20), _mm256_permute2f128_ps(b3, b7, 0x20),
                       _mm256_permute2f128_ps(b0, b4, 0x31), _mm256_permute2f128_ps(b1, b5, 0x31),
                       _mm256_permute2f128_ps(b2, b6, 0x31), _mm256_permute2f128_ps(b3, b7, 0x31)};
  for (std::int64_t i = 0; i < 8; ++i)
    if (i < count) _mm256_storeu_ps(out + i * kPanel, c[i]);
}

void pack_keys(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; j += kPanel, out += kPanel * task.d)
    for (std::int64_t half = 0; half < kPanel; half += 8)
      for (std::int64_t c = 0; c < task.d; c += 8) {
        __m256 rows[8];
        for (std::int64_t r = 0; r < 8; ++r) {
          const std::int64_t key = j + half + r;
          rows[r] = key < keys ? load_first(task.k + key * task.ldk + c, task.d - c) : _mm256_setzero_ps();
        }
        transpose8(rows, out + c * kPanel + half, task.d - c);
      }
}

void pack_values(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = task.v + j * task.ldv;
    for (std::int64_t c = 0; c < task.d; c += kPanel) {
      float* to = out + c * keys + j * kPanel;
      _mm256_store_ps(to, load_first(v + c, task.d - c));
      _mm256_store_ps(to + 8, load_first(v + c + 8, task.d - c - 8));
    }
  }
}

// ---- c[rows, 8 * vectors] (+)= a[rows, depth] . panel[depth, 16] ---------------------------------------------------

template <int rows, int vectors>
void multiply(const float* a, std::int64_t lda, const float* panel, std::int64_t depth, float* c, std::int64_t ldc,
              std::int64_t columns, bool accumulate) {
  __m256 sum[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      sum[r][v] = accumulate ? load_first(c + r * ldc + 8 * v, columns - 8 * v) : _mm256_setzero_ps();
  for (std::int64_t i = 0; i < depth; ++i) {
    __m256 b[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) b[v] = _mm256_load_ps(panel + i * kPanel + 8 * v);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m256 x = _mm256_broadcast_ss(a + r * lda + i);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_fmadd_ps(x, b[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) store_first(c + r * ldc + 8 * v, sum[r][v], columns - 8 * v);
}

using Multiply = void (*)(const float*, std::int64_t, const float*, std::int64_t, float*, std::int64_t, std::int64_t, bool);

inline Multiply multiply_for(std::int64_t rows, std::int64_t columns) {
  static constexpr Multiply table[2][kTile] = {
      {multiply<1, 1>, multiply<2, 1>, multiply<3, 1>, multiply<4, 1>, multiply<5, 1>, multiply<6, 1>},
      {multiply<1, 2>, multiply<2, 2>, multiply<3, 2>, multiply<4, 2>, multiply<5, 2>, multiply<6, 2>}};
  return table[columns > 8][rows - 1];
}

// ---- softmax -----------------------------------------------------------------------------------------------------

// s[n] becomes exp(scale s - max); returns 1 / their sum. Elements n..round_up(n, 8) are readable and become 0. The
// exponential is taken to the base 2, its factor folded into the scale.
float softmax(float* s, std::int64_t n, float scale) {
  const __m256 factor = _mm256_set1_ps(scale * 1.44269504f);
  const __m256i inside = first_lanes(n % 8);
  const std::int64_t whole = n / 8 * 8;
  // s[0] stands in for what lies beyond the row: no maximum changes
  if (whole < n)
    _mm256_storeu_ps(s + whole, _mm256_blendv_ps(_mm256_broadcast_ss(s), _mm256_loadu_ps(s + whole), _mm256_castsi256_ps(inside)));
  // The largest product with the factor, found before multiplying: of -s where the factor is negative.
  const __m256 sign = _mm256_and_ps(factor, _mm256_set1_ps(-0.0f));
  __m256 a = _mm256_set1_ps(-__builtin_inff()), b = a, c = a, d = a;
  std::int64_t j = 0;
  for (; j + 32 <= n; j += 32) {
    a = _mm256_max_ps(a, _mm256_xor_ps(sign, _mm256_loadu_ps(s + j)));
    b = _mm256_max_ps(b, _mm256_xor_ps(sign, _mm256_loadu_ps(s + j + 8)));
    c = _mm256_max_ps(c, _mm256_xor_ps(sign, _mm256_loadu_ps(s + j + 16)));
    d = _mm256_max_ps(d, _mm256_xor_ps(sign, _mm256_loadu_ps(s + j + 24)));
  }
  for (; j < n; j += 8) a = _mm256_max_ps(a, _mm256_xor_ps(sign, _mm256_loadu_ps(s + j)));
  const __m256 furthest = _mm256_set1_ps(max_lanes(_mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d))));
  const __m256 largest = _mm256_mul_ps(_mm256_xor_ps(sign, furthest), factor);
  const __m256 floor = _mm256_set1_ps(-127.0f);  // 2^-127 comes out as 0
  const auto power = [&](std::int64_t at) {
    return exp2_256(_mm256_max_ps(floor, _mm256_fmsub_ps(_mm256_loadu_ps(s + at), factor, largest)));
  };
  a = b = c = d = _mm256_setzero_ps();
  for (j = 0; j + 32 <= whole; j += 32) {
    const __m256 p0 = power(j), p1 = power(j + 8), p2 = power(j + 16), p3 = power(j + 24);
    _mm256_storeu_ps(s + j, p0);
    _mm256_storeu_ps(s + j + 8, p1);
    _mm256_storeu_ps(s + j + 16, p2);
    _mm256_storeu_ps(s + j + 24, p3);
    a = _mm256_add_ps(a, p0);
    b = _mm256_add_ps(b, p1);
    c = _mm256_add_ps(c, p2);
    d = _mm256_add_ps(d, p3);
  }
  for (; j < n; j += 8) {
    __m256 p = power(j);
    if (j == whole) p = _mm256_and_ps(p, _mm256_castsi256_ps(inside));
    _mm256_storeu_ps(s + j, p);
    a = _mm256_add_ps(a, p);
  }
  return 1.0f / sum_lanes(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
}

// ---- many queries ------------------------------------------------------------------------------------------------

void scale_row(float* y, std::int64_t d, float factor) {
  const __m256 f = _mm256_set1_ps(factor);
  for (std::int64_t c = 0; c < d; c += 8) store_first(y + c, _mm256_mul_ps(load_first(y + c, d - c), f), d - c);
}

void attend_packed(const AttentionTask& task) {
  const std::int64_t keys = seen(task, task.queries - 1), lds = padded(keys, kPanel) + kPanel;
  float* k_panels = static_cast<float*>(task.scratch);
  float* v_panels = k_panels + padded(keys, kPanel) * task.d;
  float* scores = v_panels + keys * padded(task.d, kPanel);
  pack_keys(task, keys, k_panels);
  pack_values(task, keys, v_panels);

  std::int64_t block = 32768 / lds / kTile * kTile;
  block = block > kBlock ? kBlock : block < kTile ? kTile : block;
  for (std::int64_t first = 0; first < task.queries; first += block) {
    const std::int64_t rows = at_most(block, task.queries - first);
    for (std::int64_t j = 0; j < seen(task, first + rows - 1); j += kPanel)
      for (std::int64_t r = 0; r < rows; r += kTile) {
        const std::int64_t tile = at_most(kTile, rows - r);
        if (j >= seen(task, first + r + tile - 1)) continue;
        multiply_for(tile, kPanel)(task.q + (first + r) * task.ldq, task.ldq, k_panels + j * task.d, task.d,
                                   scores + r * lds + j, lds, kPanel, false);
      }
    float inverse[kBlock];
    for (std::int64_t r = 0; r < rows; ++r) inverse[r] = softmax(scores + r * lds, seen(task, first + r), task.scale);

    for (std::int64_t c = 0; c < task.d; c += kPanel) {
      const float* panel = v_panels + c * keys;
      const std::int64_t columns = at_most(kPanel, task.d - c);
      for (std::int64_t r = 0; r < rows; r += kTile) {
        const std::int64_t tile = at_most(kTile, rows - r), shared = seen(task, first + r);
        float* y = task.y + (first + r) * task.ldy + c;
        multiply_for(tile, columns)(scores + r * lds, lds, panel, shared, y, task.ldy, columns, false);
        for (std::int64_t more = 1; more < tile && shared + more <= seen(task, first + r + more); ++more) {
          const std::int64_t key = shared + more - 1;
          multiply_for(tile - more, columns)(scores + (r + more) * lds + key, lds, panel + key * kPanel, 1,
                                             y + more * task.ldy, task.ldy, columns, true);
        }
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) scale_row(task.y + (first + r) * task.ldy, task.d, inverse[r]);
  }
}

// ---- few queries -------------------------------------------------------------------------------------------------

// Rows of a cache lie far apart, so the hardware does not see the stream across them: ask for rows this far ahead.
constexpr std::int64_t kAhead = 16;

inline void prefetch_row(const float* row, std::int64_t d) {
  for (std::int64_t c = 0; c < d; c += 16) _mm_prefetch(reinterpret_cast<const char*>(row + c), _MM_HINT_T0);
}

// Dot products of q with 8 rows of k, the elements on the lanes. Bound by loads: 9 for 8 multiply-adds.
inline __m256 dot8(const float* q, const float* const* k, std::int64_t d) {
  __m256 sum[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) sum[r] = _mm256_setzero_ps();
  std::int64_t c = 0;
  for (; c + 8 <= d; c += 8) {
    const __m256 x = _mm256_loadu_ps(q + c);
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) sum[r] = _mm256_fmadd_ps(x, _mm256_loadu_ps(k[r] + c), sum[r]);
  }
  if (c < d) {
    const __m256 x = load_first(q + c, d - c);
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) sum[r] = _mm256_fmadd_ps(x, load_first(k[r] + c, d - c), sum[r]);
  }
  const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(sum[0], sum[1]), _mm256_hadd_ps(sum[2], sum[3]));
  const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(sum[4], sum[5]), _mm256_hadd_ps(sum[6], sum[7]));
  return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// y[columns] = factor * sum_j p[j] v[j, columns]: `vectors` vectors of columns times `strands` keys at once, so that
// eight independent sums hide the latency of a multiply-add.
template <int vectors, int strands>
void weigh(const float* p, std::int64_t keys, const float* v, std::int64_t ldv, float* y, std::int64_t columns, float factor) {
  __m256 sum[strands][vectors];
#pragma GCC unroll 8
  for (int s = 0; s < strands; ++s)
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u) sum[s][u] = _mm256_setzero_ps();
  std::int64_t j = 0;
  for (; j + strands <= keys; j += strands)
#pragma GCC unroll 8
    for (int s = 0; s < strands; ++s) {
      const float* row = v + (j + s) * ldv;
      const __m256 weight = _mm256_broadcast_ss(p + j + s);
      if (j + s + kAhead < keys) prefetch_row(row + kAhead * ldv, columns);
#pragma GCC unroll 8
      for (int u = 0; u < vectors; ++u)
        sum[s][u] = _mm256_fmadd_ps(weight, vectors == 1 ? load_first(row, columns) : _mm256_loadu_ps(row + 8 * u), sum[s][u]);
    }
  for (; j < keys; ++j) {
    const __m256 weight = _mm256_broadcast_ss(p + j);
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u)
      sum[0][u] = _mm256_fmadd_ps(weight, vectors == 1 ? load_first(v + j * ldv, columns) : _mm256_loadu_ps(v + j * ldv + 8 * u),
                                  sum[0][u]);
  }
#pragma GCC unroll 8
  for (int s = 1; s < strands; ++s)
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u) sum[0][u] = _mm256_add_ps(sum[0][u], sum[s][u]);
#pragma GCC unroll 8
  for (int u = 0; u < vectors; ++u) store_first(y + 8 * u, _mm256_mul_ps(sum[0][u], _mm256_set1_ps(factor)), columns - 8 * u);
}

void attend_one(const AttentionTask& task, std::int64_t i) {
  float* p = static_cast<float*>(task.scratch);
  const std::int64_t keys = seen(task, i);
  const float* q = task.q + i * task.ldq;
  for (std::int64_t j = 0; j < keys; j += 8) {
    const float* rows[8];
    for (std::int64_t r = 0; r < 8; ++r) {
      rows[r] = task.k + at_most(j + r, keys - 1) * task.ldk;
      if (j + r + kAhead < keys) prefetch_row(rows[r] + kAhead * task.ldk, task.d);
    }
    _mm256_store_ps(p + j, dot8(q, rows, task.d));
  }
  const float inverse = softmax(p, keys, task.scale);
  float* y = task.y + i * task.ldy;
  std::int64_t c = 0;
  for (; c + 64 <= task.d; c += 64) weigh<8, 1>(p, keys, task.v + c, task.ldv, y + c, 64, inverse);
  for (; c + 32 <= task.d; c += 32) weigh<4, 2>(p, keys, task.v + c, task.ldv, y + c, 32, inverse);
  for (; c + 16 <= task.d; c += 16) weigh<2, 4>(p, keys, task.v + c, task.ldv, y + c, 16, inverse);
  for (; c < task.d; c += 8) weigh<1, 8>(p, keys, task.v + c, task.ldv, y + c, at_most(8, task.d - c), inverse);
}

}  // namespace

void attention_avx2(const AttentionTask& task) {
  if (task.queries >= kPack) return attend_packed(task);
  for (std::int64_t i = 0; i < task.queries; ++i) attend_one(task, i);
}

}  // namespace aerogel
