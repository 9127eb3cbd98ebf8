#include "ops/math_avx512vnni.h"
#include "ops/ops.h"

namespace aerogel {

void add_avx512vnni(const AddTask& task) {
  std::int64_t i = 0;
  for (; i + 32 <= task.count; i += 32) {
    const __m512 a = _mm512_add_ps(_mm512_loadu_ps(task.a + i), _mm512_loadu_ps(task.b + i));
    const __m512 b = _mm512_add_ps(_mm512_loadu_ps(task.a + i + 16), _mm512_loadu_ps(task.b + i + 16));
    _mm512_storeu_ps(task.y + i, a);
    _mm512_storeu_ps(task.y + i + 16, b);
  }
  for (; i < task.count; i += 16) {
    const std::int64_t n = task.count - i;
    store_first(task.y + i, _mm512_add_ps(load_first(task.a + i, n), load_first(task.b + i, n)), n);
  }
}

}  // namespace aerogel
