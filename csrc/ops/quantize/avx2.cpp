// Two passes over a row: the largest magnitude, then the codes (the row is in L1 by then).
#include "ops/math_avx2.h"
#include "ops/ops.h"
#include "ops/row_clamped.h"

namespace aerogel {
namespace {

std::uint32_t largest_bits(const float* x, std::int64_t width) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 32 <= width; k += 32) {
    a = _mm256_max_epi32(a, magnitude_bits(_mm256_loadu_ps(x + k)));
    b = _mm256_max_epi32(b, magnitude_bits(_mm256_loadu_ps(x + k + 8)));
    c = _mm256_max_epi32(c, magnitude_bits(_mm256_loadu_ps(x + k + 16)));
    d = _mm256_max_epi32(d, magnitude_bits(_mm256_loadu_ps(x + k + 24)));
  }
  for (; k < width; k += 8) a = _mm256_max_epi32(a, magnitude_bits(load_first(x + k, width - k)));
  return max_lanes_i32(_mm256_max_epi32(_mm256_max_epi32(a, b), _mm256_max_epi32(c, d)));
}

}  // namespace

void quantize_avx2(const QuantizeTask& task) {
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
    quantize_row_avx2(x, task.width, largest, q, task.ldq, task.scale + t);
  }
}

}  // namespace aerogel
