// grouped_q8 on Advanced SIMD: the products of dense_q8, whose lanes are added at the end of a group: three pairwise additions, a
// conversion, a product and an addition for 4 rows of a token, where 32 columns cost it 24 multiplications and additions. Tested in
// emulation, not yet timed on hardware.
#include "linear/dense_q8/tile_neon.h"
#include "linear/grouped_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

#define UNROLL _Pragma("GCC unroll 16")

// y of T tokens and the 4 rows of a panel.
template <int T>
void group_tile(const LinearTask& task, const GroupedQ8View& w, std::int64_t panel, std::int64_t token) {
  const auto* x = static_cast<const std::int8_t*>(task.x) + token * task.ldx;
  const std::int8_t* codes = w.codes + panel * kRows * w.k_padded;
  const float* scale = w.scale + panel * w.groups * kRows;
  float32x4_t total[T];
  UNROLL for (int t = 0; t < T; ++t) total[t] = vdupq_n_f32(0);
  for (std::int64_t begin = 0; begin < w.k_padded; begin += w.group, scale += kRows) {
    const std::int64_t end = w.k_padded - begin < w.group ? w.k_padded : begin + w.group;
    int32x4_t lanes[T][kRows];
    UNROLL for (int t = 0; t < T; ++t) {
      UNROLL for (int r = 0; r < kRows; ++r) lanes[t][r] = vdupq_n_s32(0);
    }
    for (std::int64_t k = begin; k < end; k += 16, codes += 16 * kRows) {
      int8x16_t rows[kRows];
      UNROLL for (int r = 0; r < kRows; ++r) rows[r] = vld1q_s8(codes + 16 * r);
      UNROLL for (int t = 0; t < T; ++t) multiply_add(lanes[t], rows, vld1q_s8(x + t * task.ldx + k));
    }
    UNROLL for (int t = 0; t < T; ++t) {
      const int32x4_t sum = vpaddq_s32(vpaddq_s32(lanes[t][0], lanes[t][1]), vpaddq_s32(lanes[t][2], lanes[t][3]));
      total[t] = vaddq_f32(total[t], vmulq_f32(vld1q_f32(scale), vcvtq_f32_s32(sum)));
    }
  }

  const std::int64_t n = panel * kRows;
  const int here = w.n - n < kRows ? static_cast<int>(w.n - n) : kRows;
  float bias[kRows] = {};
  for (int r = 0; task.bias != nullptr && r < here; ++r) bias[r] = task.bias[n + r];
  UNROLL for (int t = 0; t < T; ++t) {
    float32x4_t value = vmulq_n_f32(total[t], task.x_scale[token + t]);
    if (task.bias != nullptr) value = vaddq_f32(value, vld1q_f32(bias));
    float y[kRows];
    vst1q_f32(y, value);
    for (int r = 0; r < here; ++r) task.y[(token + t) * task.ldy + n + r] = y[r];
  }
}

}  // namespace

void run_grouped_q8_neon(const LinearTask& task) {
  const GroupedQ8View& w = *static_cast<const GroupedQ8View*>(task.weight);
  // Tokens whose x stays in a 256 KB share of L2 while the panels pass.
  const std::int64_t fit = 256 * 1024 / w.k_padded / kTile * kTile;
  const std::int64_t block = fit < 16 ? 16 : fit;
  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t end = task.m - first < block ? task.m : first + block;
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      std::int64_t token = first;
      for (; token + kTile <= end; token += kTile) group_tile<4>(task, w, panel, token);
      switch (end - token) {
        case 1: group_tile<1>(task, w, panel, token); break;
        case 2: group_tile<2>(task, w, panel, token); break;
        case 3: group_tile<3>(task, w, panel, token); break;
        default: break;
      }
    }
  }
}

#undef UNROLL

}  // namespace aerogel
