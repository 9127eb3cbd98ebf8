// The register tile of the NEON kernels whose weights become panels of floats: dense_f32, dense_bf16, masked_bf16. Everything has
// internal linkage: each kernel file compiles its own copy. panels.h says what a Source and its rows are.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "linear/dense_f32/layout.h"
#include "linear/linear.h"

// Loops over a register tile must be unrolled, or the tile lives in memory.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace aerogel {
namespace {

constexpr int kPanel = dense_f32::kNeon.panel;
constexpr int kTile = dense_f32::kNeon.tile;
constexpr int kChunk = dense_f32::kNeon.chunk;
constexpr int kBlock = dense_f32::kNeon.block;

// A panel of floats, [k][kPanel].
struct FloatRows {
  const float* w;

  void next(float32x4_t& w0, float32x4_t& w1) {
    w0 = vld1q_f32(w);
    w1 = vld1q_f32(w + 4);
    w += kPanel;
  }
};

template <int T, int Lane, class Rows>
inline void multiply_lane(Rows& rows, const float32x4_t (&x)[T], float32x4_t (&sum)[T][2]) {
  float32x4_t w0, w1;
  rows.next(w0, w1);
  UNROLL
  for (int t = 0; t < T; ++t) {
    sum[t][0] = vfmaq_laneq_f32(sum[t][0], w0, x[t], Lane);
    sum[t][1] = vfmaq_laneq_f32(sum[t][1], w1, x[t], Lane);
  }
}

// T tokens times one panel. One or two tokens keep several sums a lane, or the latency of the FMA would bound them.
template <int T, class Rows>
__attribute__((noinline)) void multiply(const dense_f32::Tile& tile, Rows rows) {
  constexpr int kPhases = T <= 2 ? 2 : 1;
  float32x4_t sum[kPhases][T][2];
  UNROLL
  for (int p = 0; p < kPhases; ++p) {
    UNROLL
    for (int t = 0; t < T; ++t) sum[p][t][0] = sum[p][t][1] = vdupq_n_f32(0.0f);
  }
  const float* x_chunk = tile.x;
  for (std::int64_t left = tile.k; left > 0; left -= kChunk, x_chunk += T * kChunk) {
    const float* x = x_chunk;
    const float* const end = x_chunk + (left < kChunk ? left : kChunk);
    for (; end - x >= 4; x += 4) {
      float32x4_t value[T];
      UNROLL
      for (int t = 0; t < T; ++t) value[t] = vld1q_f32(x + t * kChunk);
      multiply_lane<T, 0>(rows, value, sum[0]);
      multiply_lane<T, 1>(rows, value, sum[kPhases - 1]);
      multiply_lane<T, 2>(rows, value, sum[0]);
      multiply_lane<T, 3>(rows, value, sum[kPhases - 1]);
    }
    for (; x < end; ++x) {
      float32x4_t w0, w1;
      rows.next(w0, w1);
      UNROLL
      for (int t = 0; t < T; ++t) {
        sum[0][t][0] = vfmaq_n_f32(sum[0][t][0], w0, x[t * kChunk]);
        sum[0][t][1] = vfmaq_n_f32(sum[0][t][1], w1, x[t * kChunk]);
      }
    }
  }

  UNROLL
  for (int t = 0; t < T; ++t) {
    UNROLL
    for (int half = 0; half < 2; ++half) {
      float32x4_t total = sum[0][t][half];
      if (kPhases == 2) total = vaddq_f32(total, sum[kPhases - 1][t][half]);
      float* y = tile.y + t * tile.ldy + 4 * half;
      const std::int64_t left = tile.rows - 4 * half;
      const float* plus = tile.accumulate ? y : tile.bias == nullptr ? nullptr : tile.bias + 4 * half;
      if (left >= 4) {
        vst1q_f32(y, plus == nullptr ? total : vaddq_f32(total, vld1q_f32(plus)));
      } else {
        float lanes[4];
        vst1q_f32(lanes, total);
        for (std::int64_t r = 0; r < left; ++r) y[r] = plus == nullptr ? lanes[r] : lanes[r] + plus[r];
      }
    }
  }
}

template <bool Stream, class Rows>  // a stream is read like a block: the hardware fetches it
void multiply_tokens(std::int64_t tokens, const dense_f32::Tile& tile, Rows rows) {
  switch (tokens) {
    case 1: return multiply<1>(tile, rows);
    case 2: return multiply<2>(tile, rows);
    case 3: return multiply<3>(tile, rows);
    case 4: return multiply<4>(tile, rows);
    case 5: return multiply<5>(tile, rows);
    case 6: return multiply<6>(tile, rows);
    case 7: return multiply<7>(tile, rows);
    default: return multiply<8>(tile, rows);
  }
}

// columns [k, k + count) of `tokens` tokens, kChunk apart.
void copy_chunk(const float* x, std::int64_t ldx, std::int64_t tokens, std::int64_t count, float* out) {
  for (std::int64_t t = 0; t < tokens; ++t, x += ldx, out += kChunk) {
    std::int64_t k = 0;
    for (; k + 4 <= count; k += 4) vst1q_f32(out + k, vld1q_f32(x + k));
    for (; k < count; ++k) out[k] = x[k];
  }
}

#include "linear/dense_f32/panels.h"

}  // namespace
}  // namespace aerogel
