// The register tile of dense int8 weights on Advanced SIMD and the loops around it, for the neon kernels that have such weights
// or make them from a packed form. What bounds it: neon.cpp.
#pragma once

#include <arm_neon.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr int kRows = static_cast<int>(kDenseQ8Neon.rows);
constexpr int kTile = 4;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

// Lanes of 4 rows += w[4, 16] x[16]. As intrinsics, GCC 12 starts the products of all tokens first and spills them; four chains
// side by side also suit cores that run in order.
inline void multiply_add(int32x4_t (&sum)[4], const int8x16_t (&w)[4], int8x16_t x) {
  int16x8_t p0, p1, p2, p3;
  __asm__(
      "smull   %[p0].8h, %[w0].8b, %[x].8b\n\t"
      "smull   %[p1].8h, %[w1].8b, %[x].8b\n\t"
      "smull   %[p2].8h, %[w2].8b, %[x].8b\n\t"
      "smull   %[p3].8h, %[w3].8b, %[x].8b\n\t"
      "smlal2  %[p0].8h, %[w0].16b, %[x].16b\n\t"
      "smlal2  %[p1].8h, %[w1].16b, %[x].16b\n\t"
      "smlal2  %[p2].8h, %[w2].16b, %[x].16b\n\t"
      "smlal2  %[p3].8h, %[w3].16b, %[x].16b\n\t"
      "sadalp  %[s0].4s, %[p0].8h\n\t"
      "sadalp  %[s1].4s, %[p1].8h\n\t"
      "sadalp  %[s2].4s, %[p2].8h\n\t"
      "sadalp  %[s3].4s, %[p3].8h"
      : [s0] "+w"(sum[0]), [s1] "+w"(sum[1]), [s2] "+w"(sum[2]), [s3] "+w"(sum[3]), [p0] "=&w"(p0), [p1] "=&w"(p1),
        [p2] "=&w"(p2), [p3] "=&w"(p3)
      : [w0] "w"(w[0]), [w1] "w"(w[1]), [w2] "w"(w[2]), [w3] "w"(w[3]), [x] "w"(x));
}

// y of T tokens and the 4 rows of a panel, `codes`.
template <int T>
void tile(const LinearTask& task, std::int64_t outputs, std::int64_t k_padded, const float* scales, const std::int8_t* codes,
          std::int64_t panel, std::int64_t token) {
  const auto* x = static_cast<const std::int8_t*>(task.x) + token * task.ldx;
  int32x4_t lanes[T][kRows];
  UNROLL for (int t = 0; t < T; ++t) {
    UNROLL for (int r = 0; r < kRows; ++r) lanes[t][r] = vdupq_n_s32(0);
  }
  for (std::int64_t k = 0; k < k_padded; k += 16, codes += 16 * kRows) {
    int8x16_t rows[kRows];
    UNROLL for (int r = 0; r < kRows; ++r) rows[r] = vld1q_s8(codes + 16 * r);
    UNROLL for (int t = 0; t < T; ++t) multiply_add(lanes[t], rows, vld1q_s8(x + t * task.ldx + k));
  }

  const std::int64_t n = panel * kRows;
  const int here = outputs - n < kRows ? static_cast<int>(outputs - n) : kRows;
  float32x4_t bias = vdupq_n_f32(0);
  if (task.bias != nullptr) {
    if (here == kRows) {
      bias = vld1q_f32(task.bias + n);
    } else {
      float tail[kRows] = {};
      for (int r = 0; r < here; ++r) tail[r] = task.bias[n + r];
      bias = vld1q_f32(tail);
    }
  }
  UNROLL for (int t = 0; t < T; ++t) {
    const int32x4_t sum = vpaddq_s32(vpaddq_s32(lanes[t][0], lanes[t][1]), vpaddq_s32(lanes[t][2], lanes[t][3]));
    const float32x4_t factor = vmulq_n_f32(vld1q_f32(scales + n), task.x_scale[token + t]);
    float32x4_t value = vmulq_f32(vcvtq_f32_s32(sum), factor);
    if (task.bias != nullptr) value = vaddq_f32(value, bias);
    float* y = task.y + (token + t) * task.ldy + n;
    if (here == kRows) {
      vst1q_f32(y, value);
    } else {
      float tail[kRows];
      vst1q_f32(tail, value);
      for (int r = 0; r < here; ++r) y[r] = tail[r];
    }
  }
}

// A whole call; codes(panel) is where the codes of a panel are, until it is asked for the next.
template <class Codes>
void run_panels(const LinearTask& task, std::int64_t outputs, std::int64_t k_padded, const float* scales, const Codes& codes) {
  // Tokens whose x stays in a 256 KB share of L2 while the panels pass.
  const std::int64_t fit = 256 * 1024 / k_padded / kTile * kTile;
  const std::int64_t block = fit < 16 ? 16 : fit;
  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t end = task.m - first < block ? task.m : first + block;
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const std::int8_t* const here = codes(panel);
      std::int64_t token = first;
      for (; token + kTile <= end; token += kTile) tile<4>(task, outputs, k_padded, scales, here, panel, token);
      switch (end - token) {
        case 1: tile<1>(task, outputs, k_padded, scales, here, panel, token); break;
        case 2: tile<2>(task, outputs, k_padded, scales, here, panel, token); break;
        case 3: tile<3>(task, outputs, k_padded, scales, here, panel, token); break;
        default: break;
      }
    }
  }
}

#undef UNROLL

}  // namespace
}  // namespace aerogel
