// Two passes over a row: the largest magnitude, then the codes (the row is in L1 by then).
#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

std::uint32_t largest_bits(const float* x, std::int64_t width) {
  uint32x4_t a = vdupq_n_u32(0), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) {
    a = vmaxq_u32(a, magnitude_bits(vld1q_f32(x + k)));
    b = vmaxq_u32(b, magnitude_bits(vld1q_f32(x + k + 4)));
    c = vmaxq_u32(c, magnitude_bits(vld1q_f32(x + k + 8)));
    d = vmaxq_u32(d, magnitude_bits(vld1q_f32(x + k + 12)));
  }
  for (; k < width; k += 4) a = vmaxq_u32(a, magnitude_bits(load_first(x + k, width - k)));
  return vmaxvq_u32(vmaxq_u32(vmaxq_u32(a, b), vmaxq_u32(c, d)));
}

}  // namespace

void quantize_neon(const QuantizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    quantize_row_neon(x, task.width, largest_bits(x, task.width), task.q + t * task.ldq, task.ldq, task.scale + t);
  }
}

}  // namespace aerogel
