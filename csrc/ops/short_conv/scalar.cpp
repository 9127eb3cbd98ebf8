#include "ops/row_scalar.h"

namespace aerogel {

void short_conv_scalar(const ShortConvTask& task) {
  const std::int64_t width = task.width;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* b = task.x + t * task.ldx;
    const float* c = b + width;
    const float* x = c + width;
    const float* v = task.v + t * width;  // of the first tap
    float* own = task.v + (t + task.taps - 1) * width;
    float* y = task.y + t * task.ldy;
    for (std::int64_t k = 0; k < width; ++k) {
      own[k] = b[k] * x[k];
      float sum = task.kernel[k] * v[k];
      if (task.bias != nullptr) sum = task.bias[k] + sum;
      for (std::int64_t j = 1; j < task.taps; ++j) sum += task.kernel[j * width + k] * v[j * width + k];
      y[k] = c[k] * sum;
    }
    if (task.q != nullptr) quantize_row_scalar(y, width, task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace aerogel
