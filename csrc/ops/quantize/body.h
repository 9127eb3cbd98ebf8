// Two passes over a row: the largest magnitude, then the codes (the row is in L1 by then). Over the vocabulary of a vector/<isa>.h,
// which is included before.
#pragma once

#include "ops/ops.h"
#include "ops/row.h"

namespace aerogel {
namespace {

std::uint32_t largest_bits(const float* x, std::int64_t width) {
  Bits largest[4] = {};
  std::int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes)
    for (int u = 0; u < 4; ++u) largest[u] = max(largest[u], magnitude_bits(load(x + k + u * kLanes)));
  for (; k < width; k += kLanes) largest[0] = max(largest[0], magnitude_bits(load_first(x + k, width - k)));
  return max_lanes(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
}

void quantize(const QuantizeTask& task) {
  const std::uint32_t limit = limit_bits(task);
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    std::int8_t* const q = task.q + t * task.ldq;
    std::uint32_t largest = largest_bits(x, task.width);
    if (limit != 0 && largest < kNotFinite) {
      if (largest > limit) {
        quantize_row_clamped(x, task.width, task.limit, q, task.ldq, task.scale + t);
        continue;
      }
      largest = limit;
    }
    quantize_row(x, task.width, largest, q, task.ldq, task.scale + t);
  }
}

}  // namespace
}  // namespace aerogel
