#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {

void add_neon(const AddTask& task) {
  std::int64_t i = 0;
  for (; i + 8 <= task.count; i += 8) {
    const float32x4_t a = vaddq_f32(vld1q_f32(task.a + i), vld1q_f32(task.b + i));
    const float32x4_t b = vaddq_f32(vld1q_f32(task.a + i + 4), vld1q_f32(task.b + i + 4));
    vst1q_f32(task.y + i, a);
    vst1q_f32(task.y + i + 4, b);
  }
  for (; i < task.count; i += 4) {
    const std::int64_t n = task.count - i;
    store_first(task.y + i, vaddq_f32(load_first(task.a + i, n), load_first(task.b + i, n)), n);
  }
}

}  // namespace aerogel
