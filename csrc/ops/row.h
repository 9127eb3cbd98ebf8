// What the ops that can write codes share, over the vocabulary of a vector/<isa>.h, which is included before.
//
// The largest magnitude is taken on the bits, as integers: the order is the same, and a NaN or an infinity comes out
// on top instead of getting lost.
#pragma once

#include "ops/row_clamped.h"

namespace aerogel {

// The bits of max |x|.
static inline std::uint32_t largest_bits(const float* x, std::int64_t width) {
  Bits largest[4] = {};
  std::int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes)
    for (int u = 0; u < 4; ++u) largest[u] = max(largest[u], magnitude_bits(load(x + k + u * kLanes)));
  for (; k < width; k += kLanes) largest[0] = max(largest[0], magnitude_bits(load_first(x + k, width - k)));
  return max_lanes(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
}

// x[width] to q[ldq], given the bits of max |x|. No clamp: |x| * (127 / max) <= 127 (1 + 2^-23), which rounds to at most 127.
// Bound by the loads of x and by what store_codes does.
static inline void quantize_row(const float* x, std::int64_t width, std::uint32_t max_bits, std::int8_t* q, std::int64_t ldq,
                                float* scale) {
  constexpr std::int64_t kStep = kCodeVectors * kLanes;
  float largest;
  __builtin_memcpy(&largest, &max_bits, sizeof largest);
  const float inverse = 127.0f / largest;
  const bool poison = max_bits >= kNotFinite, zero = !(inverse <= 3.402823466e38f);
  std::int64_t k = 0;
  if (poison || zero) {
    *scale = poison ? __builtin_nanf("") : 0.0f;
  } else {
    *scale = largest / 127.0f;
    const Vector factor = splat(inverse);
    Bits codes[kCodeVectors];
    const auto step = [&](std::int64_t at, auto n) {
      for (int u = 0; u < kCodeVectors; ++u) codes[u] = codes_of(mul(load_first(x + at + u * kLanes, n - u * kLanes), factor));
      store_codes(q + at, codes);
    };
    for (; k + kStep <= width; k += kStep) step(k, All{});
    if (k < width) {
      step(k, width - k);
      k += kStep;
    }
  }
  const Bits zeros[kCodeVectors] = {};
  for (; k < ldq; k += kStep) store_codes(q + k, zeros);
}

}  // namespace aerogel
