#include "ops/math_avx512vnni.h"
#include "ops/ops.h"

namespace aerogel {

void rope_avx512vnni(const RopeTask& task) {
  const std::int64_t half = task.d / 2;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* cosine = task.cos + task.positions[t] * half;
    const float* sine = task.sin + task.positions[t] * half;
    for (std::int64_t head = 0; head < task.heads; ++head) {
      float* x = task.x + t * task.ldx + head * task.d;
      for (std::int64_t i = 0; i < half; i += 16) {
        const std::int64_t n = half - i;
        const __m512 a = load_first(x + i, n), b = load_first(x + half + i, n);
        const __m512 c = load_first(cosine + i, n), s = load_first(sine + i, n);
        store_first(x + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)), n);
        store_first(x + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)), n);
      }
    }
  }
}

}  // namespace aerogel
