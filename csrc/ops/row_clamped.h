// quantize of one row by a limit that was fixed beforehand. Internal linkage: see the note in ops.h.
#pragma once

#include <cstring>

#include "ops/ops.h"

namespace aerogel {

// The bits of a float that are those of an infinity or above: infinities and NaNs.
constexpr std::uint32_t kNotFinite = 0x7f800000u;

// The bits of the task's limit, comparable to those of magnitudes; 0: none.
static inline std::uint32_t limit_bits(const QuantizeTask& task) {
  std::uint32_t bits;
  std::memcpy(&bits, &task.limit, sizeof bits);
  return bits;
}

// For finite rows, values beyond the limit included. A plain loop, which compilers turn into the file's own vectors: only rows
// with values that calibration has not seen come here.
static inline void quantize_row_clamped(const float* x, std::int64_t width, float limit, std::int8_t* q, std::int64_t ldq,
                                        float* scale) {
  const float inverse = 127.0f / limit;
  *scale = limit / 127.0f;
  for (std::int64_t k = 0; k < width; ++k) {
    float scaled = x[k] * inverse;  // may be an infinity
    scaled = scaled > 127.0f ? 127.0f : scaled;
    scaled = scaled < -127.0f ? -127.0f : scaled;
    q[k] = static_cast<std::int8_t>((scaled + 12582912.0f) - 12582912.0f);  // half to even
  }
  for (std::int64_t k = width; k < ldq; ++k) q[k] = 0;
}

}  // namespace aerogel
