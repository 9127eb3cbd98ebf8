// Attention as two small matrix products around a softmax.
//
// From kPack queries on, keys and values are first packed into panels of 8 columns, which both products then read
// as a straight stream (q, k and v are slices of wide rows, whose strides collide in L1):
//
//     K panels  [ceil(keys/8)][d][8]         column = key
//     V panels  [ceil(d/8)][keys][8]         column = element of v
//
// A block of up to 48 queries is multiplied with the K panels into scores [block][padded keys + 8], in tiles of 6 rows
// by 2 vectors (12 accumulators; a query element is loaded into all lanes); softmax
// in place; then the same tile multiplies the scores with the V panels. Scores stay under 128 KB, a share of L2.
//
// With fewer queries (decode) packing would cost more than it gains: k and v are read where they are, once a query.
//
// Causal: a tile multiplies with the keys its first query sees, and then key by key with the rows that see more: keys
// that a query does not see never touch it, not even times 0.
#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr std::int64_t kPanel = 8;
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

void pack_keys(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; j += kPanel, out += kPanel * task.d)
    for (std::int64_t r = 0; r < kPanel; ++r)
      for (std::int64_t c = 0; c < task.d; ++c) out[c * kPanel + r] = j + r < keys ? task.k[(j + r) * task.ldk + c] : 0.0f;
}

void pack_values(const AttentionTask& task, std::int64_t keys, float* out) {
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = task.v + j * task.ldv;
    for (std::int64_t c = 0; c < task.d; c += kPanel) {
      float* to = out + c * keys + j * kPanel;
      vst1q_f32(to, load_first(v + c, task.d - c));
      vst1q_f32(to + 4, load_first(v + c + 4, task.d - c - 4));
    }
  }
}

// ---- c[rows, 4 * vectors] (+)= a[rows, depth] . panel[depth, 8] ---------------------------------------------------

template <int rows, int vectors>
void multiply(const float* a, std::int64_t lda, const float* panel, std::int64_t depth, float* c, std::int64_t ldc,
              std::int64_t columns, bool accumulate) {
  float32x4_t sum[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      sum[r][v] = accumulate ? load_first(c + r * ldc + 4 * v, columns - 4 * v) : vdupq_n_f32(0.0f);
  for (std::int64_t i = 0; i < depth; ++i) {
    float32x4_t b[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) b[v] = vld1q_f32(panel + i * kPanel + 4 * v);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const float32x4_t x = vld1q_dup_f32(a + r * lda + i);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = vfmaq_f32(sum[r][v], x, b[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) store_first(c + r * ldc + 4 * v, sum[r][v], columns - 4 * v);
}

using Multiply = void (*)(const float*, std::int64_t, const float*, std::int64_t, float*, std::int64_t, std::int64_t, bool);

inline Multiply multiply_for(std::int64_t rows, std::int64_t columns) {
  static constexpr Multiply table[2][kTile] = {
      {multiply<1, 1>, multiply<2, 1>, multiply<3, 1>, multiply<4, 1>, multiply<5, 1>, multiply<6, 1>},
      {multiply<1, 2>, multiply<2, 2>, multiply<3, 2>, multiply<4, 2>, multiply<5, 2>, multiply<6, 2>}};
  return table[columns > 4][rows - 1];
}

// ---- softmax -----------------------------------------------------------------------------------------------------

inline float32x4_t turn(uint32x4_t sign, float32x4_t v) {
  return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), sign));
}

// s[n] becomes exp(scale s - max); returns 1 / their sum. Elements n..round_up(n, 4) are readable and become 0. The
// exponential is taken to the base 2, its factor folded into the scale.
float softmax(float* s, std::int64_t n, float scale) {
  const float32x4_t factor = vdupq_n_f32(scale * 1.44269504f);
  const uint32x4_t inside = first_lanes(n % 4);
  const std::int64_t whole = n / 4 * 4;
  // s[0] stands in for what lies beyond the row: no maximum changes
  if (whole < n)
    vst1q_f32(s + whole, vbslq_f32(inside, vld1q_f32(s + whole), vld1q_dup_f32(s)));
  // The largest product with the factor, found before multiplying: of -s where the factor is negative.
  const uint32x4_t sign = vdupq_n_u32(scale < 0.0f ? 0x80000000u : 0u);
  float32x4_t a = vdupq_n_f32(-__builtin_inff()), b = a, c = a, d = a;
  std::int64_t j = 0;
  for (; j + 16 <= n; j += 16) {
    a = vmaxq_f32(a, turn(sign, vld1q_f32(s + j)));
    b = vmaxq_f32(b, turn(sign, vld1q_f32(s + j + 4)));
    c = vmaxq_f32(c, turn(sign, vld1q_f32(s + j + 8)));
    d = vmaxq_f32(d, turn(sign, vld1q_f32(s + j + 12)));
  }
  for (; j < n; j += 4) a = vmaxq_f32(a, turn(sign, vld1q_f32(s + j)));
  const float32x4_t furthest = vdupq_n_f32(vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d))));
  const float32x4_t largest = vmulq_f32(turn(sign, furthest), factor);
  const float32x4_t floor = vdupq_n_f32(-127.0f);  // 2^-127 comes out as 0
  const auto power = [&](std::int64_t at) {
    return exp2_128(vmaxq_f32(floor, fmadd(vld1q_f32(s + at), factor, vnegq_f32(largest))));
  };
  a = b = c = d = vdupq_n_f32(0.0f);
  for (j = 0; j + 16 <= whole; j += 16) {
    const float32x4_t p0 = power(j), p1 = power(j + 4), p2 = power(j + 8), p3 = power(j + 12);
    vst1q_f32(s + j, p0);
    vst1q_f32(s + j + 4, p1);
    vst1q_f32(s + j + 8, p2);
    vst1q_f32(s + j + 12, p3);
    a = vaddq_f32(a, p0);
    b = vaddq_f32(b, p1);
    c = vaddq_f32(c, p2);
    d = vaddq_f32(d, p3);
  }
  for (; j < n; j += 4) {
    float32x4_t p = power(j);
    if (j == whole) p = keep(p, inside);
    vst1q_f32(s + j, p);
    a = vaddq_f32(a, p);
  }
  return 1.0f / vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
}

// ---- many queries ------------------------------------------------------------------------------------------------

void scale_row(float* y, std::int64_t d, float factor) {
  const float32x4_t f = vdupq_n_f32(factor);
  for (std::int64_t c = 0; c < d; c += 4) store_first(y + c, vmulq_f32(load_first(y + c, d - c), f), d - c);
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

// Dot products of q with 4 rows of k, the elements on the lanes.
inline float32x4_t dot4(const float* q, const float* const* k, std::int64_t d) {
  float32x4_t sum[4];
  for (int r = 0; r < 4; ++r) sum[r] = vdupq_n_f32(0.0f);
  for (std::int64_t c = 0; c < d; c += 4) {
    const float32x4_t x = load_first(q + c, d - c);
    for (int r = 0; r < 4; ++r) sum[r] = vfmaq_f32(sum[r], x, load_first(k[r] + c, d - c));
  }
  return vpaddq_f32(vpaddq_f32(sum[0], sum[1]), vpaddq_f32(sum[2], sum[3]));
}

// y[columns] = factor * sum_j p[j] v[j, columns]: `vectors` vectors of columns times `strands` keys at once, so that
// eight independent sums hide the latency of a multiply-add.
template <int vectors, int strands>
void weigh(const float* p, std::int64_t keys, const float* v, std::int64_t ldv, float* y, std::int64_t columns, float factor) {
  float32x4_t sum[strands][vectors];
#pragma GCC unroll 8
  for (int s = 0; s < strands; ++s)
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u) sum[s][u] = vdupq_n_f32(0.0f);
  std::int64_t j = 0;
  for (; j + strands <= keys; j += strands)
#pragma GCC unroll 8
    for (int s = 0; s < strands; ++s) {
      const float* row = v + (j + s) * ldv;
      const float32x4_t weight = vld1q_dup_f32(p + j + s);
#pragma GCC unroll 8
      for (int u = 0; u < vectors; ++u)
        sum[s][u] = fmadd(weight, vectors == 1 ? load_first(row, columns) : vld1q_f32(row + 4 * u), sum[s][u]);
    }
  for (; j < keys; ++j) {
    const float32x4_t weight = vld1q_dup_f32(p + j);
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u)
      sum[0][u] = fmadd(weight, vectors == 1 ? load_first(v + j * ldv, columns) : vld1q_f32(v + j * ldv + 4 * u),
                                  sum[0][u]);
  }
#pragma GCC unroll 8
  for (int s = 1; s < strands; ++s)
#pragma GCC unroll 8
    for (int u = 0; u < vectors; ++u) sum[0][u] = vaddq_f32(sum[0][u], sum[s][u]);
#pragma GCC unroll 8
  for (int u = 0; u < vectors; ++u) store_first(y + 4 * u, vmulq_f32(sum[0][u], vdupq_n_f32(factor)), columns - 4 * u);
}

void attend_one(const AttentionTask& task, std::int64_t i) {
  float* p = static_cast<float*>(task.scratch);
  const std::int64_t keys = seen(task, i);
  const float* q = task.q + i * task.ldq;
  for (std::int64_t j = 0; j < keys; j += 4) {
    const float* rows[4];
    for (std::int64_t r = 0; r < 4; ++r) rows[r] = task.k + at_most(j + r, keys - 1) * task.ldk;
    vst1q_f32(p + j, dot4(q, rows, task.d));
  }
  const float inverse = softmax(p, keys, task.scale);
  float* y = task.y + i * task.ldy;
  std::int64_t c = 0;
  for (; c + 32 <= task.d; c += 32) weigh<8, 1>(p, keys, task.v + c, task.ldv, y + c, 32, inverse);
  for (; c + 16 <= task.d; c += 16) weigh<4, 2>(p, keys, task.v + c, task.ldv, y + c, 16, inverse);
  for (; c + 8 <= task.d; c += 8) weigh<2, 4>(p, keys, task.v + c, task.ldv, y + c, 8, inverse);
  for (; c < task.d; c += 4) weigh<1, 8>(p, keys, task.v + c, task.ldv, y + c, at_most(4, task.d - c), inverse);
}

}  // namespace

void attention_neon(const AttentionTask& task) {
  if (task.queries >= kPack) return attend_packed(task);
  for (std::int64_t i = 0; i < task.queries; ++i) attend_one(task, i);
}

}  // namespace aerogel
