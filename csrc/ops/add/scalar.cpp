#include "ops/ops.h"

namespace aerogel {

void add_scalar(const AddTask& task) {
  for (std::int64_t i = 0; i < task.count; ++i) task.y[i] = task.a[i] + task.b[i];
}

}  // namespace aerogel
