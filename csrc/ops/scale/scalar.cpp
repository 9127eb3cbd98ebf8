#include "ops/ops.h"

namespace aerogel {

void scale_scalar(const ScaleTask& task) {
  for (std::int64_t i = 0; i < task.count; ++i) task.y[i] = task.x[i] * task.factor;
}

}  // namespace aerogel
