// Bare multiply-add loops and reads in plain C++; empty assembly keeps the compiler from seeing through them.
#include "limits/limits.h"

namespace aerogel {

std::int64_t peak_int8_scalar(std::int64_t rounds) {
  std::int32_t a = 1, s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (std::int64_t i = 0; i < rounds; ++i) {
    __asm__("" : "+r"(a), "+r"(s0), "+r"(s1), "+r"(s2), "+r"(s3));
    s0 += a * s1;
    s1 += a * s2;
    s2 += a * s3;
    s3 += a * s0;
  }
  return s0 + s1 + s2 + s3 == 0 ? 4 * rounds : 0;
}

std::int64_t peak_fp32_scalar(std::int64_t rounds) {
  float a = 0.5f, s[8] = {};
  for (std::int64_t i = 0; i < rounds; ++i) {
    __asm__("" : "+m"(a));
    for (float& sum : s) sum += a * sum;
  }
  float total = 0.0f;
  for (const float sum : s) total += sum;
  return total == 0.0f ? 8 * rounds : 0;
}

std::int64_t read_scalar(const void* data, std::size_t bytes) {
  const std::uint64_t* at = static_cast<const std::uint64_t*>(data);
  const std::uint64_t* const end = at + bytes / sizeof(*at);
  std::uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (; at != end; at += 4) {
    s0 |= at[0];
    s1 |= at[1];
    s2 |= at[2];
    s3 |= at[3];
  }
  return (s0 | s1 | s2 | s3) == 0;
}

}  // namespace aerogel
