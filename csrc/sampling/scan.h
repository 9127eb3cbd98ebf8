// Passes over the logits of a vocabulary, in plain code that compilers turn into vectors of the baseline.
#pragma once

#include <cstdint>
#include <vector>

namespace aerogel {

// e^d for d <= 0, with a relative error below 3e-7; e^-60 below that, and for NaN. Products and sums are rounded one by one (see
// CMakeLists.txt), so every machine gets the same bits.
inline float exp_below_0(float d) {
  const float x = d > -60.0f ? d : -60.0f;
  const float whole = static_cast<float>(static_cast<std::int32_t>(x * 1.44269504f - 0.5f));
  const float r = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
  const float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * (0.00833333333f + r * 0.00138888889f)))));
  const std::int32_t bits = (static_cast<std::int32_t>(whole) + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return p * power;
}

// e^d as an integer: sums of those do not depend on the order. 0 where it is below 2^-31 of the largest, 1.
constexpr std::int32_t kOne = 1 << 30;
inline std::int32_t weight_of(float d) { return static_cast<std::int32_t>(exp_below_0(d) * 0x1p30f + 0.5f); }

std::uint64_t sum(const std::int32_t* weights, std::int64_t n);

// The largest of x [n]; -inf if there is none but NaN.
float largest(const float* x, std::int64_t n);

// The lowest i with x[i] == value, which is there.
std::int64_t find(const float* x, std::int64_t n, float value);

// The k-th largest of x [n], 1 <= k <= n, in one pass; `kept` is worked in.
float kth_largest(const float* x, std::int64_t n, std::int64_t k, std::vector<float>& kept);

}  // namespace aerogel
