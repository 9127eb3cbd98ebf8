// The reference: ops.h word for word.
#include <cstring>

#include "base/f16.h"
#include "ops/row_scalar.h"

namespace aerogel {

void keep_rows_scalar(const KeepTask& task) {
  const std::int64_t row_bytes = kept_row_bytes(task.numbers, task.d), scale_bytes = static_cast<std::int64_t>(sizeof(float));
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int64_t row = (task.position + t) % kKeptTokens;
    std::uint8_t* const block = task.blocks[(task.position + t) / kKeptTokens];
    for (std::int64_t head = 0; head < task.heads; ++head) {
      const float* const x = task.x + t * task.ldx + head * task.d;
      std::uint8_t* const to = block + task.place.at + (head * kKeptTokens + row) * row_bytes;
      if (task.numbers == Kept::float32) {
        std::memcpy(to, x, static_cast<std::size_t>(row_bytes));
      } else if (task.numbers == Kept::float16) {
        for (std::int64_t c = 0; c < task.d; ++c) reinterpret_cast<std::uint16_t*>(to)[c] = float_to_f16(x[c]);
      } else {
        float* const scale = reinterpret_cast<float*>(block + task.place.scales + (head * kKeptTokens + row) * scale_bytes);
        quantize_row_scalar(x, task.d, reinterpret_cast<std::int8_t*>(to), task.d, scale);
      }
    }
  }
}

}  // namespace aerogel
