// Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

void scale_array(const ScaleTask& task) {
  const float* x = task.x;
  float* y = task.y;
  const Vector factor = splat(task.factor);
  const auto step = [&](std::int64_t i, auto n) { store_first(y + i, mul(load_first(x + i, n), factor), n); };
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= task.count; i += 2 * kLanes)
    for (int u = 0; u < 2; ++u) step(i + u * kLanes, All{});
  for (; i < task.count; i += kLanes) step(i, task.count - i);
}

}  // namespace
}  // namespace aerogel
