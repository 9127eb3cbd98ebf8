// quantize of one row, shared by the scalar ops that can write codes. Internal linkage: see the note in ops.h.
#pragma once

#include <cmath>
#include <limits>

#include "ops/ops.h"
#include "ops/row_clamped.h"

namespace aerogel {

// limit 0: the row's own.
static inline void quantize_row_scalar(const float* x, std::int64_t width, std::int8_t* q, std::int64_t ldq, float* scale,
                                       float limit = 0.0f) {
  float largest = 0.0f;
  bool finite = true;
  for (std::int64_t k = 0; k < width; ++k) {
    const float magnitude = std::fabs(x[k]);
    if (!(magnitude <= std::numeric_limits<float>::max())) finite = false;
    if (magnitude > largest) largest = magnitude;
  }
  for (std::int64_t k = 0; k < ldq; ++k) q[k] = 0;
  if (!finite) {
    *scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  if (limit != 0.0f) {
    quantize_row_clamped(x, width, limit, q, ldq, scale);
    return;
  }
  const float inverse = 127.0f / largest;
  if (!(inverse <= std::numeric_limits<float>::max())) {
    *scale = 0.0f;
    return;
  }
  *scale = largest / 127.0f;
  for (std::int64_t k = 0; k < width; ++k) {
    // Adding and taking away 1.5 * 2^23 rounds half to even, as long as the value is under 2^22. The product is at most
    // 127 * (1 + 2^-23): it rounds into [-127, 127] by itself.
    const float shifted = x[k] * inverse + 12582912.0f;
    q[k] = static_cast<std::int8_t>(shifted - 12582912.0f);
  }
}

}  // namespace aerogel
