// The reference, query by query and head by head. Scratch: the scores of one query.
#include <cmath>

#include "ops/ops.h"

namespace aerogel {

void attention_scalar(const AttentionTask& task) {
  float* p = static_cast<float*>(task.scratch);
  for (std::int64_t row = 0; row < task.queries * task.heads; ++row) {
    const std::int64_t i = row / task.heads, column = row % task.heads * task.d;
    std::int64_t keys = task.keys;
    if (task.causal && task.first_key_limit + i + 1 < keys) keys = task.first_key_limit + i + 1;
    float largest = -INFINITY;
    for (std::int64_t j = 0; j < keys; ++j) {
      double score = 0.0;
      for (std::int64_t c = 0; c < task.d; ++c)
        score += static_cast<double>(task.q[i * task.ldq + column + c]) * static_cast<double>(task.k[j * task.ldk + c]);
      p[j] = static_cast<float>(score * static_cast<double>(task.scale));
      if (p[j] > largest) largest = p[j];
    }
    double sum = 0.0;
    for (std::int64_t j = 0; j < keys; ++j) {
      p[j] = std::exp(p[j] - largest);
      sum += static_cast<double>(p[j]);
    }
    for (std::int64_t c = 0; c < task.d; ++c) {
      double value = 0.0;
      for (std::int64_t j = 0; j < keys; ++j)
        value += static_cast<double>(p[j]) * static_cast<double>(task.v[j * task.ldv + c]);
      task.y[i * task.ldy + column + c] = static_cast<float>(value / sum);
    }
  }
}

}  // namespace aerogel
