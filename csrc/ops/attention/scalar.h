// The reference, query by query and head by head, of keys and values wherever they lie: `key` and `value` give element c of row j.
// Scratch: the scores of one query.
#pragma once

#include <cmath>

#include "ops/ops.h"

namespace aerogel {
namespace {

// s[i,j], of a head among those that share the keys.
template <class Key>
float score(const AttentionTask& task, const Key& key, std::int64_t i, std::int64_t j, std::int64_t head) {
  double s = 0.0;
  for (std::int64_t c = 0; c < task.d; ++c)
    s += static_cast<double>(task.q[i * task.ldq + head * task.d + c]) * static_cast<double>(key(j, c));
  s *= static_cast<double>(task.scale);
  if (task.softcap > 0.0f) s = static_cast<double>(task.softcap) * std::tanh(s / static_cast<double>(task.softcap));
  const std::int64_t t = j - (task.position + i), reach = task.reach;
  if (task.bias != nullptr) {
    const std::int64_t at = t < -reach ? -reach : t > reach ? reach : t;
    s += static_cast<double>(task.bias[head * (2 * reach + 1) + at + reach]);
  }
  if (task.slopes != nullptr) s -= static_cast<double>(task.slopes[head]) * static_cast<double>(t < 0 ? -t : t);
  return static_cast<float>(s);
}

template <class Key, class Value>
void attend(const AttentionTask& task, const Key& key, const Value& value_of) {
  float* p = static_cast<float*>(task.scratch);
  for (std::int64_t row = 0; row < task.queries * task.heads; ++row) {
    const std::int64_t i = row / task.heads, head = row % task.heads, at = task.position + i;
    std::int64_t first = 0, end = task.keys;
    if (task.window >= 0 && at - task.window > first) first = at - task.window;
    if (task.window >= 0 && at + task.window + 1 < end) end = at + task.window + 1;
    if (task.causal && at + 1 < end) end = at + 1;
    float largest = -INFINITY;
    for (std::int64_t j = first; j < end; ++j) {
      p[j] = score(task, key, i, j, head);
      if (p[j] > largest) largest = p[j];
    }
    double sum = 0.0;
    for (std::int64_t j = first; j < end; ++j) {
      p[j] = std::exp(p[j] - largest);
      sum += static_cast<double>(p[j]);
    }
    for (std::int64_t c = 0; c < task.d; ++c) {
      double value = 0.0;
      for (std::int64_t j = first; j < end; ++j)
        value += static_cast<double>(p[j]) * static_cast<double>(value_of(j, c));
      task.y[i * task.ldy + head * task.d + c] = static_cast<float>(value / sum);
    }
  }
}

}  // namespace
}  // namespace aerogel
