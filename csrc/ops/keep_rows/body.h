// Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/keep_rows/walk.h"
#include "ops/row.h"

namespace aerogel {
namespace {

inline void keep_f16(const float* x, std::int64_t d, std::uint16_t* to) {
  const auto poisoned = [](Vector v) { return fma(v, splat(0.0f), v); };  // a NaN where an infinity is
  std::int64_t c = 0;
  for (; c + kLanes <= d; c += kLanes) store_f16(to + c, poisoned(load(x + c)));
  if (c < d) {
    std::uint16_t some[kLanes];
    store_f16(some, poisoned(load_first(x + c, d - c)));
    __builtin_memcpy(to + c, some, static_cast<std::size_t>(d - c) * sizeof some[0]);
  }
}

// Pieces of a row go through a buffer, as codes are stored several vectors at a time.
inline void keep_q8(const float* x, std::int64_t d, std::int8_t* to, float* scale) {
  constexpr std::int64_t kPiece = 256;
  alignas(64) std::int8_t codes[kPiece];
  const std::uint32_t largest = largest_bits(x, d);
  for (std::int64_t c = 0; c < d; c += kPiece) {
    const std::int64_t n = d - c < kPiece ? d - c : kPiece;
    quantize_row(x + c, n, largest, codes, n, scale);
    __builtin_memcpy(to + c, codes, static_cast<std::size_t>(n));
  }
}

void keep_rows(const KeepTask& task) { keep_each(task, keep_f16, keep_q8); }

}  // namespace
}  // namespace aerogel
