// Attention as two small matrix products around a softmax.
//
// From kPack queries on, keys and values are first packed into panels of 32 columns, which both products then read
// as a straight stream (q, k and v are slices of wide rows, whose strides collide in L1):
//
//     K panels  [ceil(keys/32)][d][32]         column = key
//     V panels  [ceil(d/32)][keys][32]         column = element of v
//
// A block of up to 48 queries is multiplied with the K panels into scores [block][padded keys + 16], in tiles of 12 rows
// by 2 vectors (24 accumulators, 2 loads, 1 broadcast: 14 loads for 24 multiply-adds, so bound by the two FMA ports); softmax
// in place; then the same tile multiplies the scores with the V panels. Scores stay under 128 KB, a share of L2.
//
// With fewer queries (decode) packing would cost more than it gains: k and v are read where they are, once a query.
//
// Causal: a tile multiplies with the keys its first query sees, and then key by key with the rows that see more: keys
// that a query does not see never touch it, not even times 0.
#include "ops/math_avx512vnni.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr std::int64_t kPanel = 32;
constexpr std::int64_t kTile = 12;
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
    for (std::int64_t part = 0; part < kPanel; part += 8)
      for (std::int64_t c = 0; c < task.d; c += 8) {
        const __mmask8 inside = static_cast<__mmask8>(first_lanes(task.d - c));
        __m256 rows[8];
        for (std::int64_t r = 0; r < 8; ++r) {
          const std::int64_t key = j + part + r;
          rows[r] = key < keys ? _mm256_maskz_loadu_ps(inside, task.k + key * task.ldk + c) : _mm256_setzero_ps();
        }
        transpose8(rows, out + c * kPanel + part, task.d - c);
      }
}

void pack_values(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = task.v + j * task.ldv;
    for (std::int64_t c = 0; c < task.d; c += kPanel) {
      float* to = out + c * keys + j * kPanel;
      _mm512_store_ps(to, load_first(v + c, task.d - c));
      _mm512_store_ps(to + 16, load_first(v + c + 16, task.d - c - 16));
    }
  }
}

// ---- c[rows, 16 * vectors] (+)= a[rows, depth] . panel[depth, 32] ---------------------------------------------------

template <int rows, int vectors>
void multiply(const float* a, std::int64_t lda, const float* panel, std::int64_t depth, float* c, std::int64_t ldc,
              std::int64_t columns, bool accumulate) {
  __m512 sum[rows][vectors];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      sum[r][v] = accumulate ? load_first(c + r * ldc + 16 * v, columns - 16 * v) : _mm512_setzero_ps();
  for (std::int64_t i = 0; i < depth; ++i) {
    __m512 b[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) b[v] = _mm512_load_ps(panel + i * kPanel + 16 * v);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const __m512 x = _mm512_set1_ps(a[r * lda + i]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = _mm512_fmadd_ps(x, b[v], sum[r][v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) store_first(c + r * ldc + 16 * v, sum[r][v], columns - 16 * v);
}

using Multiply = void (*)(const float*, std::int64_t, const float*, std::int64_t, float*, std::int64_t, std::int64_t, bool);

inline Multiply multiply_for(std::int64_t rows, std::int64_t columns) {
  static constexpr Multiply table[2][kTile] = {
      {multiply<1, 1>, multiply<2, 1>, multiply<3, 1>, multiply<4, 1>, multiply<5, 1>, multiply<6, 1>,
       multiply<7, 1>, multiply<8, 1>, multiply<9, 1>, multiply<10, 1>, multiply<11, 1>, multiply<12, 1>},
      {multiply<1, 2>, multiply<2, 2>, multiply<3, 2>, multiply<4, 2>, multiply<5, 2>, multiply<6, 2>,
       multiply<7, 2>, multiply<8, 2>, multiply<9, 2>, multiply<10, 2>, multiply<11, 2>, multiply<12, 2>}};
  return table[columns > 16][rows - 1];
}

// ---- softmax -----------------------------------------------------------------------------------------------------

// s[n] becomes exp(scale s - max); returns 1 / their sum. Elements n..round_up(n, 16) are readable and become 0. The
// exponential is taken to the base 2, its factor folded into the scale.
float softmax(float* s, std::int64_t n, float scale) {
  const __m512 factor = _mm512_set1_ps(scale * 1.44269504f);
  const __mmask16 inside = first_lanes(n % 16);
  const std::int64_t whole = n / 16 * 16;
  // s[0] stands in for what lies beyond the row: no maximum changes
  if (whole < n)
    _mm512_storeu_ps(s + whole, _mm512_mask_loadu_ps(_mm512_set1_ps(s[0]), inside, s + whole));
  // The largest product with the factor, found before multiplying: of -s where the factor is negative.
  const __m512 sign = _mm512_and_ps(factor, _mm512_set1_ps(-0.0f));
  __m512 a = _mm512_set1_ps(-__builtin_inff()), b = a, c = a, d = a;
  std::int64_t j = 0;
  for (; j + 64 <= n; j += 64) {
    a = _mm512_max_ps(a, _mm512_xor_ps(sign, _mm512_loadu_ps(s + j)));
    b = _mm512_max_ps(b, _mm512_xor_ps(sign, _mm512_loadu_ps(s + j + 16)));
    c = _mm512_max_ps(c, _mm512_xor_ps(sign, _mm512_loadu_ps(s + j + 32)));
    d = _mm512_max_ps(d, _mm512_xor_ps(sign, _mm512_loadu_ps(s + j + 48)));
  }
  for (; j < n; j += 16) a = _mm512_max_ps(a, _mm512_xor_ps(sign, _mm512_loadu_ps(s + j)));
  const __m512 furthest = _mm512_set1_ps(max_lanes(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d))));
  const __m512 largest = _mm512_mul_ps(_mm512_xor_ps(sign, furthest), factor);
  const __m512 floor = _mm512_set1_ps(-127.0f);  // 2^-127 comes out as 0
  const auto power = [&](std::int64_t at) {
    return exp2_512(_mm512_max_ps(floor, _mm512_fmsub_ps(_mm512_loadu_ps(s + at), factor, largest)));
  };
  a = b = c = d = _mm512_setzero_ps();
  for (j = 0; j + 64 <= whole; j += 64) {
    const __m512 p0 = power(j), p1 = power(j + 16), p2 = power(j + 32), p3 = power(j + 48);
    _mm512_storeu_ps(s + j, p0);
    _mm512_storeu_ps(s + j + 16, p1);
    _mm512_storeu_ps(s + j + 32, p2);
    _mm512_storeu_ps(s + j + 48, p3);
    a = _mm512_add_ps(a, p0);
    b = _mm512_add_ps(b, p1);
    c = _mm512_add_ps(c, p2);
    d = _mm512_add_ps(d, p3);
  }
  for (; j < n; j += 16) {
    __m512 p = power(j);
    if (j == whole) p = _mm512_maskz_mov_ps(inside, p);
    _mm512_storeu_ps(s + j, p);
    a = _mm512_add_ps(a, p);
  }
  return 1.0f / sum_lanes(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
}

// ---- many queries ------------------------------------------------------------------------------------------------

void scale_row(float* y, std::int64_t d, float factor) {
  const __m512 f = _mm512_set1_ps(factor);
  for (std::int64_t c = 0; c < d; c += 16) store_first(y + c, _mm512_mul_ps(load_first(y + c, d - c), f), d - c);
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

// Dot products of q with 16 rows of k, the elements on the lanes. Bound by loads: 17 for 16 multiply-adds.
inline __m512 dot16(const float* q, const float* const* k, std::int64_t d) {
  __m512 sum[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) sum[r] = _mm512_setzero_ps();
  for (std::int64_t c = 0; c < d; c += 16) {
    const __mmask16 inside = first_lanes(d - c);
    const __m512 x = _mm512_maskz_loadu_ps(inside, q + c);
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) sum[r] = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(inside, k[r] + c), sum[r]);
  }
  // Add up the lanes of all rows at once: within quarters first, then across them.
  __m512 four[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(sum[4 * r], sum[4 * r + 1]), _mm512_unpackhi_ps(sum[4 * r], sum[4 * r + 1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(sum[4 * r + 2], sum[4 * r + 3]), _mm512_unpackhi_ps(sum[4 * r + 2], sum[4 * r + 3]));
    four[r] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
  }
  const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(four[0], four[1], 0x88), _mm512_shuffle_f32x4(four[0], four[1], 0xdd));
  const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(four[2], four[3], 0x88), _mm512_shuffle_f32x4(four[2], four[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

// y[columns] = factor * sum_j p[j] v[j, columns]: `vectors` vectors of columns times `strands` keys at once, so that
// eight independent sums hide the latency of a multiply-add.
template <int vectors, int strands>
void weigh(const float* p, std::int64_t keys, const float* v, std::int64_t ldv, float* y, std::int64_t columns, float factor) {
  __m512 sum[strands][vectors];
#pragma GCC unroll 8
  for (int s = 0; s < strands; ++s)
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u) sum[s][u] = _mm512_setzero_ps();
  std::int64_t j = 0;
  for (; j + strands <= keys; j += strands)
#pragma GCC unroll 8
    for (int s = 0; s < strands; ++s) {
      const float* row = v + (j + s) * ldv;
      const __m512 weight = _mm512_set1_ps(p[j + s]);
      if (j + s + kAhead < keys) prefetch_row(row + kAhead * ldv, columns);
#pragma GCC unroll 8
      for (int u = 0; u < vectors; ++u)
        sum[s][u] = _mm512_fmadd_ps(weight, vectors == 1 ? load_first(row, columns) : _mm512_loadu_ps(row + 16 * u), sum[s][u]);
    }
  for (; j < keys; ++j) {
    const __m512 weight = _mm512_set1_ps(p[j]);
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u)
      sum[0][u] = _mm512_fmadd_ps(weight, vectors == 1 ? load_first(v + j * ldv, columns) : _mm512_loadu_ps(v + j * ldv + 16 * u),
                                  sum[0][u]);
  }
#pragma GCC unroll 8
  for (int s = 1; s < strands; ++s)
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u) sum[0][u] = _mm512_add_ps(sum[0][u], sum[s][u]);
#pragma GCC unroll 8
  for (int u = 0; u < vectors; ++u) store_first(y + 16 * u, _mm512_mul_ps(sum[0][u], _mm512_set1_ps(factor)), columns - 16 * u);
}

void attend_one(const AttentionTask& task, std::int64_t i) {
  float* p = static_cast<float*>(task.scratch);
  const std::int64_t keys = seen(task, i);
  const float* q = task.q + i * task.ldq;
  for (std::int64_t j = 0; j < keys; j += 16) {
    const float* rows[16];
    for (std::int64_t r = 0; r < 16; ++r) {
      rows[r] = task.k + at_most(j + r, keys - 1) * task.ldk;
      if (j + r + kAhead < keys) prefetch_row(rows[r] + kAhead * task.ldk, task.d);
    }
    _mm512_store_ps(p + j, dot16(q, rows, task.d));
  }
  const float inverse = softmax(p, keys, task.scale);
  float* y = task.y + i * task.ldy;
  std::int64_t c = 0;
  for (; c + 128 <= task.d; c += 128) weigh<8, 1>(p, keys, task.v + c, task.ldv, y + c, 128, inverse);
  for (; c + 64 <= task.d; c += 64) weigh<4, 2>(p, keys, task.v + c, task.ldv, y + c, 64, inverse);
  for (; c + 32 <= task.d; c += 32) weigh<2, 4>(p, keys, task.v + c, task.ldv, y + c, 32, inverse);
  for (; c < task.d; c += 16) weigh<1, 8>(p, keys, task.v + c, task.ldv, y + c, at_most(16, task.d - c), inverse);
}

}  // namespace

void attention_avx512vnni(const AttentionTask& task) {
  if (task.queries >= kPack) return attend_packed(task);
  for (std::int64_t i = 0; i < task.queries; ++i) attend_one(task, i);
}

}  // namespace aerogel
