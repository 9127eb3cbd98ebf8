// Two passes over a row: the largest magnitude, then the codes (the row is in L1 by then). Over the vocabulary of a vector/<isa>.h,
// which is included before.
#pragma once

#include "ops/ops.h"
#include "ops/row.h"

namespace aerogel {
namespace {

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
