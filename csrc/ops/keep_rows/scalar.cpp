// The reference: ops.h word for word.
#include "base/f16.h"
#include "ops/keep_rows/walk.h"
#include "ops/row_scalar.h"

namespace aerogel {

void keep_rows_scalar(const KeepTask& task) {
  keep_each(
      task,
      [](const float* x, std::int64_t d, std::uint16_t* to) {
        for (std::int64_t c = 0; c < d; ++c) to[c] = float_to_f16(x[c]);
      },
      [](const float* x, std::int64_t d, std::int8_t* to, float* scale) { quantize_row_scalar(x, d, to, d, scale); });
}

}  // namespace aerogel
