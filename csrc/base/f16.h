// f16, IEEE's half precision: 11 bits of significand, 5 of exponent.
#pragma once

#include <cstdint>
#include <cstring>

namespace aerogel {

// Exact. Internal linkage: kernel files have a copy each.
static inline float f16_to_float(std::uint16_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x8000) << 16, exponent = code >> 10 & 31, fraction = code & 1023;
  std::uint32_t bits;
  if (exponent == 31) {
    bits = 0x7f800000 | fraction << 13;
  } else if (exponent != 0) {
    bits = (exponent + 112) << 23 | fraction << 13;
  } else {  // subnormal: fraction * 2^-24
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    std::memcpy(&bits, &value, sizeof bits);
  }
  bits |= sign;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Rounded half to even; beyond the largest f16 it is that; infinities and NaNs become NaNs.
static inline std::uint16_t float_to_f16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint16_t sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits >= 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (bits >= 0x477fe000) return static_cast<std::uint16_t>(sign | 0x7bff);  // 65504 and more
  if (bits < 0x38800000) {  // subnormal: the last bit of 0.5 is 2^-24, so the sum rounds to multiples of it
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof bits);
    return static_cast<std::uint16_t>(sign | (bits - 0x3f000000));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<std::uint16_t>(sign | (bits - 0x38000000) >> 13);
}

static inline bool f16_is_finite(std::uint16_t code) { return (code & 0x7c00) != 0x7c00; }

}  // namespace aerogel
