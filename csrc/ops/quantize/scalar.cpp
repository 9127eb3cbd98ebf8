// The reference: ops.h word for word.
#include "ops/row_scalar.h"

namespace aerogel {

void quantize_scalar(const QuantizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t)
    quantize_row_scalar(task.x + t * task.ldx, task.width, task.q + t * task.ldq, task.ldq, task.scale + t, task.limit);
}

}  // namespace aerogel
