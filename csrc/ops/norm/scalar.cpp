// The reference. Sums in double, so that a vector kernel is compared with something better than itself.
#include <cmath>

#include "ops/row_scalar.h"

namespace aerogel {
namespace {

void norm(const NormTask& task, bool centred) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    float* y = task.y + t * task.ldy;
    // s goes to y when nobody asked for it: it is overwritten below, element by element.
    float* s = task.sum != nullptr ? task.sum + t * task.ldx : y;
    double total = 0.0;
    for (std::int64_t k = 0; k < task.width; ++k) {
      s[k] = task.residual != nullptr ? x[k] + task.residual[t * task.ldx + k] : x[k];
      total += s[k];
    }
    const double mean = centred ? total / static_cast<double>(task.width) : 0.0;
    double squares = 0.0;
    for (std::int64_t k = 0; k < task.width; ++k) squares += (s[k] - mean) * (s[k] - mean);
    const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(task.width) + static_cast<double>(task.eps));
    for (std::int64_t k = 0; k < task.width; ++k) {
      const double value = (s[k] - mean) * inverse * task.gamma[k];
      y[k] = static_cast<float>(task.beta != nullptr ? value + task.beta[k] : value);
    }
    if (task.q != nullptr) quantize_row_scalar(y, task.width, task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace

void layer_norm_scalar(const NormTask& task) { norm(task, true); }
void rms_norm_scalar(const NormTask& task) { norm(task, false); }

}  // namespace aerogel
