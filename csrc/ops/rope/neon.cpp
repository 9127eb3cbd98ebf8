#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {

void rope_neon(const RopeTask& task) {
  const std::int64_t half = task.d / 2;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* cosine = task.cos + task.positions[t] * half;
    const float* sine = task.sin + task.positions[t] * half;
    for (std::int64_t head = 0; head < task.heads; ++head) {
      float* x = task.x + t * task.ldx + head * task.d;
      for (std::int64_t i = 0; i < half; i += 4) {
        const std::int64_t n = half - i;
        const float32x4_t a = load_first(x + i, n), b = load_first(x + half + i, n);
        const float32x4_t c = load_first(cosine + i, n), s = load_first(sine + i, n);
        store_first(x + i, vfmsq_f32(vmulq_f32(a, c), b, s), n);
        store_first(x + half + i, fmadd(b, c, vmulq_f32(a, s)), n);
      }
    }
  }
}

}  // namespace aerogel
