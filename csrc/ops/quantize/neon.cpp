// Two passes over a row: the largest magnitude, then the codes (the row is in L1 by then).
#include "ops/math_neon.h"
#include "ops/ops.h"
#include "ops/row_clamped.h"

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
  const std::uint32_t limit = limit_bits(task);
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    std::int8_t* const q = task.q + t * task.ldq;
    std::uint32_t largest = largest_bits(x, task.width);
    if (limit != 0 && largest < kNotFinite) {
      if (largest > limit) {
        quantize_row_clamped(x, task.width, task.limit, q, task.ldq, task.scale + t);
        continue;
      }
      largest = limit;
    }
    quantize_row_neon(x, task.width, largest, q, task.ldq, task.scale + t);
  }
}

}  // namespace aerogel
