#include "ops/ops.h"

namespace aerogel {

void rope_scalar(const RopeTask& task) {
  const std::int64_t half = task.pairs;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* cosine = task.cos + (task.positions[t] - task.first) * half;
    const float* sine = task.sin + (task.positions[t] - task.first) * half;
    for (std::int64_t head = 0; head < task.heads; ++head) {
      float* x = task.x + t * task.ldx + head * task.d;
      for (std::int64_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
      }
    }
  }
}

}  // namespace aerogel
