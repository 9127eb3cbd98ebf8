// bf16: the upper half of a float. 8 bits of significand, the float's own exponents.
#pragma once

#include <cstdint>
#include <cstring>

namespace aerogel {

inline float bf16_to_float(std::uint16_t code) {
  const std::uint32_t bits = static_cast<std::uint32_t>(code) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline bool bf16_is_finite(std::uint16_t code) { return (code & 0x7f80) != 0x7f80; }

// The nearest bf16, ties to even. A finite value never becomes infinite: beyond the largest bf16 it is the largest bf16.
inline std::uint16_t bf16_from_float(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<std::uint16_t>((bits >> 16) | 0x40);  // NaN stays one
  if (magnitude < 0x7f800000 && magnitude > 0x7f7f0000) return static_cast<std::uint16_t>((bits >> 31 << 15) | 0x7f7f);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace aerogel
