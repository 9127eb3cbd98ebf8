// The reference: ops.h word for word.
#include "ops/ops.h"

namespace aerogel {

void sampled_product_scalar(const SampledTask& task) {
  for (std::int64_t n = 0; n < task.rows; ++n)
    for (std::int64_t i = task.row_begin[n]; i < task.row_begin[n + 1]; ++i) {
      float sum = 0.0f;
      for (std::int64_t t = 0; t < task.tokens; ++t) sum += task.y[t * task.ldy + n] * task.x[t * task.ldx + task.column[i]];
      task.out[i] = sum;
    }
}

}  // namespace aerogel
