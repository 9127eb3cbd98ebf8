#include <cmath>

#include "ops/ops.h"

namespace aerogel {

// Row after row: a column's sum has one order on every ISA.
void mean_pool_scalar(const PoolTask& task) {
  for (std::int64_t k = 0; k < task.width; ++k) {
    float sum = task.x[k];
    for (std::int64_t t = 1; t < task.rows; ++t) sum += task.x[t * task.ldx + k];
    task.y[k] = sum / static_cast<float>(task.rows);
  }
}

void max_pool_scalar(const PoolTask& task) {
  for (std::int64_t k = 0; k < task.width; ++k) {
    float largest = task.x[k];
    for (std::int64_t t = 1; t < task.rows; ++t) {
      const float value = task.x[t * task.ldx + k];
      if (value > largest || std::isnan(value)) largest = value;  // a NaN stays: nothing is greater
    }
    task.y[k] = largest;
  }
}

void l2_normalize_scalar(const NormalizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.width;
    double squares = 0.0;
    for (std::int64_t k = 0; k < task.width; ++k) squares += static_cast<double>(x[k]) * static_cast<double>(x[k]);
    const double norm = std::sqrt(squares);
    const double divisor = norm < 1e-12 ? 1e-12 : norm;
    for (std::int64_t k = 0; k < task.width; ++k)
      task.y[t * task.width + k] = static_cast<float>(static_cast<double>(x[k]) / divisor);
  }
}

}  // namespace aerogel
