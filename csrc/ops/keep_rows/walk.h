// The walk over tokens and heads that keep_rows is: where each row goes. What f16 and int8 numbers are made by is the caller's.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

// half(x, d, to) and code(x, d, to, scale) keep one row.
template <class Half, class Code>
inline void keep_each(const KeepTask& task, const Half& half, const Code& code) {
  const std::int64_t row_bytes = kept_row_bytes(task.numbers, task.d), scale_bytes = static_cast<std::int64_t>(sizeof(float));
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int64_t row = (task.position + t) % kKeptTokens;
    std::uint8_t* const block = task.blocks[(task.position + t) / kKeptTokens];
    for (std::int64_t head = 0; head < task.heads; ++head) {
      const float* const x = task.x + t * task.ldx + head * task.d;
      std::uint8_t* const to = block + task.place.at + (head * kKeptTokens + row) * row_bytes;
      if (task.numbers == Kept::float32)
        __builtin_memcpy(to, x, static_cast<std::size_t>(row_bytes));
      else if (task.numbers == Kept::float16)
        half(x, task.d, reinterpret_cast<std::uint16_t*>(to));
      else
        code(x, task.d, reinterpret_cast<std::int8_t*>(to),
             reinterpret_cast<float*>(block + task.place.scales + (head * kKeptTokens + row) * scale_bytes));
    }
  }
}

}  // namespace
}  // namespace aerogel
