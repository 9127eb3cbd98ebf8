// Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

void rope(const RopeTask& task) {
  const std::int64_t half = task.pairs;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* cosine = task.cos + (task.positions[t] - task.first) * half;
    const float* sine = task.sin + (task.positions[t] - task.first) * half;
    for (std::int64_t head = 0; head < task.heads; ++head) {
      float* x = task.x + t * task.ldx + head * task.d;
      const auto rotate = [&](std::int64_t i, auto n) {
        const Vector a = load_first(x + i, n), b = load_first(x + half + i, n);
        const Vector c = load_first(cosine + i, n), s = load_first(sine + i, n);
        store_first(x + i, mul_sub(a, c, b, s), n);
        store_first(x + half + i, fma(b, c, mul(a, s)), n);
      };
      std::int64_t i = 0;
      for (; i + kLanes <= half; i += kLanes) rotate(i, All{});
      if (i < half) rotate(i, half - i);
    }
  }
}

}  // namespace
}  // namespace aerogel
