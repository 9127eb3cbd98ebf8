// dense_q4 on Advanced SIMD: every panel is decoded into scratch, where the tile of dense_q8 reads it, 4 rows x K bytes that stay
// in L1. Sixteen weights cost half a load and a shift or a mask, a tbl, a subtraction, a multiplication, an addition (all modulo 256: the
// code fits) and a store. Tested in emulation, not yet timed on hardware.
#include "linear/dense_q4/layout.h"
#include "linear/dense_q8/tile_neon.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

void decode(const DenseQ4View& w, std::int64_t panel, std::int8_t* dense) {
  const std::uint8_t* index = w.index + panel * kRows * w.k_padded / 2;
  const int8x16_t levels = vld1q_s8(w.levels + panel * 16);
  const uint8x16_t mask = vdupq_n_u8(15);
  for (std::int64_t k = 0; k < w.k_padded; k += 16, index += 32, dense += 64) {
    const uint8x16_t both[2] = {vld1q_u8(index), vld1q_u8(index + 16)};
    const std::int64_t group = (panel * w.groups + k / w.group) * kRows;
    for (int r = 0; r < kRows; ++r) {
      int8x16_t code = vqtbl1q_s8(levels, r < 2 ? vandq_u8(both[r], mask) : vshrq_n_u8(both[r - 2], 4));
      code = vsubq_s8(code, vdupq_n_s8(w.same_zero));
      if (w.multiplier != nullptr) code = vmulq_s8(code, vreinterpretq_s8_u8(vdupq_n_u8(w.multiplier[group + r])));
      if (w.offset != nullptr) code = vaddq_s8(code, vdupq_n_s8(w.offset[group + r]));
      vst1q_s8(dense + 16 * r, code);
    }
  }
}

}  // namespace

void run_dense_q4_neon(const LinearTask& task) {
  const DenseQ4View& w = *static_cast<const DenseQ4View*>(task.weight);
  auto* const dense = static_cast<std::int8_t*>(task.scratch);
  run_panels(task, w.n, w.k_padded, w.scale, [&](std::int64_t panel) {
    decode(w, panel, dense);
    return static_cast<const std::int8_t*>(dense);
  });
}

}  // namespace aerogel
