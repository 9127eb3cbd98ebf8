// Over the vocabulary of a vector/<isa>.h, which is included before. Bound by loads: two a tap, and three of the row.
#pragma once

#include "ops/ops.h"
#include "ops/row.h"

namespace aerogel {
namespace {

// No fused multiply-add, which the reference does not have either.
void convolve(const ShortConvTask& task) {
  const std::int64_t width = task.width, last = task.taps - 1;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* b = task.x + t * task.ldx;
    const float* c = b + width;
    const float* x = c + width;
    float* v = task.v + t * width;  // of the first tap
    float* y = task.y + t * task.ldy;
    Bits largest = {};
    const auto step = [&](std::int64_t k, auto n) {
      const Vector own = mul(load_first(b + k, n), load_first(x + k, n));
      store_first(v + last * width + k, own, n);
      const auto tap = [&](std::int64_t j) {
        return mul(load_first(task.kernel + j * width + k, n), j == last ? own : load_first(v + j * width + k, n));
      };
      Vector sum = tap(0);
      if (task.bias != nullptr) sum = add(load_first(task.bias + k, n), sum);
      for (std::int64_t j = 1; j <= last; ++j) sum = add(sum, tap(j));
      sum = mul(load_first(c + k, n), sum);
      store_first(y + k, sum, n);
      largest = max(largest, magnitude_bits(sum));
    };
    std::int64_t k = 0;
    for (; k + kLanes <= width; k += kLanes) step(k, All{});
    if (k < width) step(k, width - k);
    if (task.q != nullptr) quantize_row(y, width, max_lanes(largest), task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace
}  // namespace aerogel
