// The reference, query by query. Scratch: the scores of one query.
#include <cmath>

#include "ops/ops.h"

namespace aerogel {
namespace {

double product(const float* a, const float* b, std::int64_t d) {
  double sum = 0.0;
  for (std::int64_t c = 0; c < d; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

}  // namespace

void disentangled_attention_scalar(const DisentangledTask& task) {
  float* p = static_cast<float*>(task.scratch);
  for (std::int64_t i = 0; i < task.queries; ++i) {
    const float* q = task.q + i * task.ld;
    float largest = -INFINITY;
    for (std::int64_t j = 0; j < task.keys; ++j) {
      const float* k = task.k + j * task.ld;
      const std::int64_t t = j - (task.position + i), reach = task.reach;
      const std::int64_t row = task.rows[(t < -reach ? -reach : t > reach ? reach : t) + reach] * task.ldp;
      double score = product(q, k, task.d);
      if (task.position_keys != nullptr) score += product(q, task.position_keys + row, task.d);
      if (task.position_queries != nullptr) score += product(k, task.position_queries + row, task.d);
      p[j] = static_cast<float>(score * static_cast<double>(task.scale));
      if (p[j] > largest) largest = p[j];
    }
    double sum = 0.0;
    for (std::int64_t j = 0; j < task.keys; ++j) {
      p[j] = std::exp(p[j] - largest);
      sum += static_cast<double>(p[j]);
    }
    for (std::int64_t c = 0; c < task.d; ++c) {
      double value = 0.0;
      for (std::int64_t j = 0; j < task.keys; ++j) value += static_cast<double>(p[j]) * static_cast<double>(task.v[j * task.ld + c]);
      task.y[i * task.ldy + c] = static_cast<float>(value / sum);
    }
  }
}

}  // namespace aerogel
