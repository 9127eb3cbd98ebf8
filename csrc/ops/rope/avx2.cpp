#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {

void rope_avx2(const RopeTask& task) {
  const std::int64_t half = task.d / 2;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* cosine = task.cos + task.positions[t] * half;
    const float* sine = task.sin + task.positions[t] * half;
    for (std::int64_t head = 0; head < task.heads; ++head) {
      float* x = task.x + t * task.ldx + head * task.d;
      for (std::int64_t i = 0; i < half; i += 8) {
        const std::int64_t n = half - i;
        const __m256 a = load_first(x + i, n), b = load_first(x + half + i, n);
        const __m256 c = load_first(cosine + i, n), s = load_first(sine + i, n);
        store_first(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)), n);
        store_first(x + half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)), n);
      }
    }
  }
}

}  // namespace aerogel
