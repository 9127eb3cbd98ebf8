#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {

void add_avx2(const AddTask& task) {
  std::int64_t i = 0;
  for (; i + 16 <= task.count; i += 16) {
    const __m256 a = _mm256_add_ps(_mm256_loadu_ps(task.a + i), _mm256_loadu_ps(task.b + i));
    const __m256 b = _mm256_add_ps(_mm256_loadu_ps(task.a + i + 8), _mm256_loadu_ps(task.b + i + 8));
    _mm256_storeu_ps(task.y + i, a);
    _mm256_storeu_ps(task.y + i + 8, b);
  }
  for (; i < task.count; i += 8) {
    const std::int64_t n = task.count - i;
    store_first(task.y + i, _mm256_add_ps(load_first(task.a + i, n), load_first(task.b + i, n)), n);
  }
}

}  // namespace aerogel
