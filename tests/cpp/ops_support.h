// What the tests of the ops share.
#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/aligned.h"
#include "check.h"
#include "kernels/table.h"

namespace aerogel::testing {

constexpr float kCanary = 1234567.0f;
constexpr double kEps = 5.9604644775390625e-08;  // 2^-24, half an ulp of 1

// The instruction sets to test: all that this machine has, or the one that AEROGEL_ISA names (an emulator is slow).
inline std::vector<Isa> tested_isas() {
  return std::getenv("AEROGEL_ISA") != nullptr ? std::vector<Isa>{active_isa()} : supported_isas();
}

inline std::vector<float> random_floats(Random& random, std::int64_t count, float low = -2.0f, float high = 2.0f) {
  std::vector<float> v(static_cast<std::size_t>(count));
  for (float& x : v) x = random.uniform(low, high);
  return v;
}

inline bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof(float)) == 0; }
// Equal, where a NaN of any sign and payload equals another.
inline bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || same_bits(a, b); }

// quantize as ops.h defines it; limit 0: dynamic.
struct Quantized {
  std::vector<std::int8_t> q;
  float scale;
};
inline Quantized quantize_row(const float* x, std::int64_t width, std::int64_t ldq, float limit = 0.0f) {
  Quantized out{std::vector<std::int8_t>(static_cast<std::size_t>(ldq), 0), 0.0f};
  float largest = 0.0f;
  for (std::int64_t k = 0; k < width; ++k) {
    if (!std::isfinite(x[k])) {
      out.scale = std::nanf("");
      return out;
    }
    largest = std::fmax(largest, std::fabs(x[k]));
  }
  if (limit != 0.0f) largest = limit;
  const float inverse = 127.0f / largest;
  if (!std::isfinite(inverse)) return out;
  out.scale = largest / 127.0f;
  for (std::int64_t k = 0; k < width; ++k)
    out.q[k] = static_cast<std::int8_t>(std::fmin(127.0f, std::fmax(-127.0f, std::nearbyint(x[k] * inverse))));
  return out;
}

// Codes with a row of canaries behind them.
struct Codes {
  std::int64_t rows, ldq;
  AlignedBuffer<std::int8_t> q;
  std::vector<float> scale;
  Codes(std::int64_t rows_, std::int64_t ldq_)
      : rows(rows_), ldq(ldq_), q(static_cast<std::size_t>((rows_ + 1) * ldq_)), scale(static_cast<std::size_t>(rows_ + 1), kCanary) {
    std::memset(q.data(), 0x55, q.size());
  }
  void check_row(std::int64_t t, const float* y, std::int64_t width, const std::string& where, float limit = 0.0f) const {
    const Quantized wanted = quantize_row(y, width, ldq, limit);
    CHECK(same(scale[t], wanted.scale), where << " row " << t << ": scale " << scale[t] << ", expected " << wanted.scale);
    for (std::int64_t k = 0; k < ldq; ++k)
      CHECK(q[t * ldq + k] == wanted.q[k], where << " code [" << t << ", " << k << "] of x = " << (k < width ? y[k] : 0.0f) << ": "
                                                 << int(q[t * ldq + k]) << ", expected " << int(wanted.q[k]));
  }
  void check_canary(const std::string& where) const {
    for (std::int64_t k = 0; k < ldq; ++k) CHECK(q[rows * ldq + k] == 0x55, where << " wrote beyond its codes");
    CHECK(scale[rows] == kCanary, where << " wrote beyond its scales");
  }
};

const std::int64_t kWidths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384, 1000};

}  // namespace aerogel::testing
