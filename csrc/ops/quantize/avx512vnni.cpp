// Two passes over a row: the largest magnitude, then the codes (the row is in L1 by then).
#include "ops/math_avx512vnni.h"
#include "ops/ops.h"
#include "ops/row_clamped.h"

namespace aerogel {
namespace {

std::uint32_t largest_bits(const float* x, std::int64_t width) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 64 <= width; k += 64) {
    a = _mm512_max_epi32(a, magnitude_bits(_mm512_loadu_ps(x + k)));
    b = _mm512_max_epi32(b, magnitude_bits(_mm512_loadu_ps(x + k + 16)));
    c = _mm512_max_epi32(c, magnitude_bits(_mm512_loadu_ps(x + k + 32)));
    d = _mm512_max_epi32(d, magnitude_bits(_mm512_loadu_ps(x + k + 48)));
  }
  for (; k < width; k += 16) a = _mm512_max_epi32(a, magnitude_bits(load_first(x + k, width - k)));
  return max_lanes_i32(_mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d)));
}

}  // namespace

void quantize_avx512vnni(const QuantizeTask& task) {
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
    quantize_row_avx512vnni(x, task.width, largest, q, task.ldq, task.scale + t);
  }
}

}  // namespace aerogel
