// rows_q8 on Advanced SIMD with the dot product extension: a tile of 16 tokens is transposed once to [K][tokens]; tokens on the lanes.
//
// A quad costs 8 zips, and for each row 4 sdot by element: 24 vector instructions for 256 products of 4 rows, 16 for 128 of 2, where
// the dense kernel needs 16 and 8, and gathered_q8 32 and 16. x is signed as it stands, nothing saturates. Not yet timed on hardware.
#include <arm_neon.h>

#include <cstring>

#include "linear/rows_q8/layout.h"

// A loop left rolled would keep the sums in memory.
#define UNROLL _Pragma("GCC unroll 16")

namespace aerogel {
namespace {

using Byte = std::int8_t;
constexpr std::int64_t kTokens = 16, kGroup = 4;

// tile[k][16] = x[token][k], of which `count` tokens exist; the others repeat the last one, their sums are not used. Four rounds of
// zips, each joining register i with register i + 8, are the byte transpose.
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t padded_k, Byte* tile) {
  for (std::int64_t k = 0; k < padded_k; k += 16) {
    int8x16_t a[16], b[16];
    UNROLL for (int t = 0; t < 16; ++t) a[t] = vld1q_s8(x + (t < count ? t : count - 1) * ldx + k);
    UNROLL for (int round = 0; round < 2; ++round) {
      UNROLL for (int i = 0; i < 8; ++i) {
        b[2 * i] = vzip1q_s8(a[i], a[i + 8]);
        b[2 * i + 1] = vzip2q_s8(a[i], a[i + 8]);
      }
      UNROLL for (int i = 0; i < 8; ++i) {
        a[2 * i] = vzip1q_s8(b[i], b[i + 8]);
        a[2 * i + 1] = vzip2q_s8(b[i], b[i + 8]);
      }
    }
    UNROLL for (int i = 0; i < 16; ++i) vst1q_s8(tile + (k + i) * 16, a[i]);
  }
}

inline int16x8_t pairs(int8x16_t zipped) { return vreinterpretq_s16_s8(zipped); }

// One set of R rows, one chunk: sums[R][16] = or += the products of its quads, for G groups of 4 tokens.
template <int R, int G>
void add_set(const std::int8_t* tile, const std::uint8_t* quad, const std::uint8_t* end, bool first, std::int32_t* sums) {
  int32x4_t s[R][G];
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int g = 0; g < G; ++g)
    s[r][g] = first ? vdupq_n_s32(0) : vld1q_s32(sums + 16 * r + 4 * g);
  for (; quad != end; quad += 8 + 4 * R) {
    std::uint16_t column[4];
    std::memcpy(column, quad, 8);
    // Columns are stored times 8.
    const int8x16_t c0 = vld1q_s8(tile + 2 * column[0]), c1 = vld1q_s8(tile + 2 * column[1]);
    const int8x16_t c2 = vld1q_s8(tile + 2 * column[2]), c3 = vld1q_s8(tile + 2 * column[3]);
    const int16x8_t low01 = pairs(vzip1q_s8(c0, c1)), low23 = pairs(vzip1q_s8(c2, c3));
    const int16x8_t high01 = pairs(vzip2q_s8(c0, c1)), high23 = pairs(vzip2q_s8(c2, c3));
    const int8x16_t x[4] = {vreinterpretq_s8_s16(vzip1q_s16(low01, low23)), vreinterpretq_s8_s16(vzip2q_s16(low01, low23)),
                            vreinterpretq_s8_s16(vzip1q_s16(high01, high23)), vreinterpretq_s8_s16(vzip2q_s16(high01, high23))};
    const auto* weight = reinterpret_cast<const std::int8_t*>(quad + 8);
    const int8x8_t low = vld1_s8(weight);
    UNROLL for (int g = 0; g < G; ++g) {
      s[0][g] = vdotq_lane_s32(s[0][g], x[g], low, 0);
      s[1][g] = vdotq_lane_s32(s[1][g], x[g], low, 1);
    }
    if constexpr (R == 4) {
      const int8x8_t high = vld1_s8(weight + 8);
      UNROLL for (int g = 0; g < G; ++g) {
        s[2][g] = vdotq_lane_s32(s[2][g], x[g], high, 0);
        s[3][g] = vdotq_lane_s32(s[3][g], x[g], high, 1);
      }
    }
  }
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int g = 0; g < G; ++g) vst1q_s32(sums + 16 * r + 4 * g, s[r][g]);
}

template <int R>
void add_groups(std::int64_t groups, const std::int8_t* tile, const std::uint8_t* quad, const std::uint8_t* end, bool first,
                std::int32_t* sums) {
  switch (groups) {
    case 1: return add_set<R, 1>(tile, quad, end, first, sums);
    case 2: return add_set<R, 2>(tile, quad, end, first, sums);
    case 3: return add_set<R, 3>(tile, quad, end, first, sums);
    default: return add_set<R, 4>(tile, quad, end, first, sums);
  }
}

// out[i] = element i of each of the 4 registers at from, from + 16, ..
inline __attribute__((always_inline)) void transpose4(const std::int32_t* from, int32x4_t (&out)[4]) {
  const int32x4_t r0 = vld1q_s32(from), r1 = vld1q_s32(from + 16), r2 = vld1q_s32(from + 32), r3 = vld1q_s32(from + 48);
  const int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(r0, r1)), b = vreinterpretq_s64_s32(vtrn2q_s32(r0, r1));
  const int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(r2, r3)), d = vreinterpretq_s64_s32(vtrn2q_s32(r2, r3));
  out[0] = vreinterpretq_s32_s64(vtrn1q_s64(a, c));
  out[1] = vreinterpretq_s32_s64(vtrn1q_s64(b, d));
  out[2] = vreinterpretq_s32_s64(vtrn2q_s64(a, c));
  out[3] = vreinterpretq_s32_s64(vtrn2q_s64(b, d));
}

// Turns the sums of rows n .. n + 3 round, 4 tokens at a time, and writes tokens [t, t_end): fewer rows behind the last one.
void write_rows(const LinearTask& task, const RowsView& v, const std::int32_t* sums, std::int64_t n, std::int64_t t, std::int64_t t_end) {
  const auto here = static_cast<std::size_t>(v.n - n < 4 ? v.n - n : 4) * 4;
  float part[4] = {};
  if (task.bias != nullptr) std::memcpy(part, task.bias + n, here);
  const float32x4_t bias = vld1q_f32(part), scale = vld1q_f32(v.scale + n);
  for (; t < t_end; t += 4, sums += 4) {
    int32x4_t sum[4];
    transpose4(sums, sum);
    UNROLL for (int j = 0; j < 4; ++j) {
      if (t + j >= t_end) return;
      float32x4_t y = vmulq_f32(vcvtq_f32_s32(sum[j]), vmulq_n_f32(scale, task.x_scale[t + j]));
      if (task.bias != nullptr) y = vaddq_f32(y, bias);
      float* to = task.y + (t + j) * task.ldy + n;
      if (here == 16) {
        vst1q_f32(to, y);
      } else {
        vst1q_f32(part, y);
        std::memcpy(to, part, here);
      }
    }
  }
}

}  // namespace
}  // namespace aerogel

#include "linear/rows_q8/run.h"

namespace aerogel {

void run_rows_q8_neondot(const LinearTask& task) { run_rows(task); }

}  // namespace aerogel
