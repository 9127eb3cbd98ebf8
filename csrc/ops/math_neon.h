// Vector mathematics and the quantization of a row, for the neon ops alone. Everything is static: no copy of it can
// be shared with code compiled for another instruction set. The same polynomials as in math_avx2.h: docs/numerics.md.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace aerogel {

// ---- the vocabulary of the bodies that all vector instruction sets share -------------------------------------------

using Vector = float32x4_t;
constexpr std::int64_t kLanes = 4;

static inline Vector load(const float* p) { return vld1q_f32(p); }
static inline void store(float* p, Vector v) { vst1q_f32(p, v); }
static inline Vector splat(float v) { return vdupq_n_f32(v); }
static inline Vector broadcast(const float* p) { return vld1q_dup_f32(p); }
static inline Vector add(Vector a, Vector b) { return vaddq_f32(a, b); }
static inline Vector sub(Vector a, Vector b) { return vsubq_f32(a, b); }
static inline Vector mul(Vector a, Vector b) { return vmulq_f32(a, b); }
static inline Vector fma(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }  // a * b + c
static inline Vector max(Vector a, Vector b) { return vmaxq_f32(a, b); }  // a NaN where one is
static inline void prefetch(const float* p) { __builtin_prefetch(p); }

// ---- loads and stores of the last n < 4 elements ----------------------------------------------------------------

// Lanes from n on are 0. n may be 0 or less: nothing is touched.
static inline float32x4_t load_first(const float* p, std::int64_t n) {
  if (n >= 4) return vld1q_f32(p);
  float lanes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (std::int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return vld1q_f32(lanes);
}

static inline void store_first(float* p, float32x4_t v, std::int64_t n) {
  if (n >= 4) return vst1q_f32(p, v);
  float lanes[4];
  vst1q_f32(lanes, v);
  for (std::int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

static inline uint32x4_t first_lanes(std::int64_t n) {
  static const std::int32_t lanes[4] = {0, 1, 2, 3};
  return vcltq_s32(vld1q_s32(lanes), vdupq_n_s32(static_cast<std::int32_t>(n)));
}

static inline float32x4_t keep(float32x4_t v, uint32x4_t lanes) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), lanes));
}

// The first n < 4 lanes of a, the rest of b.
static inline Vector select_first(std::int64_t n, Vector a, Vector b) { return vbslq_f32(first_lanes(n), a, b); }

static inline float max_lanes(Vector v) { return vmaxvq_f32(v); }
static inline float sum_lanes(Vector v) { return vaddvq_f32(v); }

// p[0..3] = the sums of the lanes of a, b, c, d.
static inline void store_sums_of_four(float* p, Vector a, Vector b, Vector c, Vector d) {
  vst1q_f32(p, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

// a * b + c
static inline float32x4_t fmadd(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }

// ---- exponentials ------------------------------------------------------------------------------------------------
// 2^t = 2^k 2^f with k = round(t). Adding 1.5 * 2^23 + 127 rounds, and leaves k + 127 in the low bits of the sum, so
// that a shift makes 2^k; k = -127 makes 0 and k = 128 makes infinity. A NaN stays one through the polynomial.

static inline float32x4_t exp2_bias() { return vdupq_n_f32(12582912.0f + 127.0f); }

static inline float32x4_t power_of(float32x4_t shifted) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(shifted), 23));
}

// c0 + c1 f + ... + c5 f^5 in pairs: five multiply-adds in a row would wait for each other.
static inline float32x4_t polynomial5(float32x4_t f, float c0, float c1, float c2, float c3, float c4, float c5) {
  const float32x4_t square = vmulq_f32(f, f);
  const float32x4_t low = fmadd(f, vdupq_n_f32(c1), vdupq_n_f32(c0));
  const float32x4_t middle = fmadd(f, vdupq_n_f32(c3), vdupq_n_f32(c2));
  const float32x4_t high = fmadd(f, vdupq_n_f32(c5), vdupq_n_f32(c4));
  return fmadd(fmadd(high, square, middle), square, low);
}

// t in [-127, 128]. 2^f by a polynomial of degree 5 with 2^0 = 1 exactly.
static inline float32x4_t exp2_128(float32x4_t t) {
  const float32x4_t shifted = vaddq_f32(t, exp2_bias());
  const float32x4_t f = vsubq_f32(t, vsubq_f32(shifted, exp2_bias()));
  const float32x4_t p = polynomial5(f, 1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647261f);
  return vmulq_f32(p, power_of(shifted));
}

static inline Vector exp2(Vector t) { return exp2_128(t); }

// e^f - 1 = f * expm1_over(f) for |f| <= ln(2) / 2.
static inline float32x4_t expm1_over(float32x4_t f) {
  return polynomial5(f, 1.0f, 0.5f, 0.166665047f, 0.0416662395f, 0.00836915802f, 0.00139485952f);
}

// x = k ln 2 + f; ln 2 in two floats, the first short enough that k times it is exact.
static inline float32x4_t exp_reduce(float32x4_t x, float32x4_t* power) {
  const float32x4_t shifted = fmadd(x, vdupq_n_f32(1.44269504f), exp2_bias());
  const float32x4_t k = vsubq_f32(shifted, exp2_bias());
  *power = power_of(shifted);
  return vfmsq_f32(vfmsq_f32(x, k, vdupq_n_f32(0.693145752f)), k, vdupq_n_f32(1.42860682e-6f));
}

// x in [-88.03, 88.9]; infinity from 88.377 on.
static inline float32x4_t exp_128(float32x4_t x) {
  float32x4_t power;
  const float32x4_t f = exp_reduce(x, &power);
  return vmulq_f32(fmadd(expm1_over(f), f, vdupq_n_f32(1.0f)), power);
}

// ---- quantize ----------------------------------------------------------------------------------------------------
// The largest magnitude is taken on the bits, as integers: the order is the same, and a NaN or an infinity comes out
// on top instead of getting lost.

static inline uint32x4_t magnitude_bits(float32x4_t v) { return vreinterpretq_u32_f32(vabsq_f32(v)); }

static inline int16x4_t codes_of(float32x4_t v, float inverse) { return vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v, inverse))); }

// 16 codes. No clamp: |x| * (127 / max) <= 127 (1 + 2^-23), which rounds to at most 127.
static inline void store_codes(std::int8_t* q, int16x4_t a, int16x4_t b, int16x4_t c, int16x4_t d) {
  vst1q_s8(q, vcombine_s8(vmovn_s16(vcombine_s16(a, b)), vmovn_s16(vcombine_s16(c, d))));
}

// x[width] to q[ldq], given the bits of max |x|.
static inline void quantize_row_neon(const float* x, std::int64_t width, std::uint32_t max_bits, std::int8_t* q,
                                     std::int64_t ldq, float* scale) {
  const float largest = vgetq_lane_f32(vreinterpretq_f32_u32(vdupq_n_u32(max_bits)), 0);
  const float inverse = 127.0f / largest;
  const bool poison = max_bits >= 0x7f800000u;
  const bool zero = !(inverse <= 3.402823466e38f);
  std::int64_t k = 0;
  if (poison || zero) {
    *scale = poison ? __builtin_nanf("") : 0.0f;
  } else {
    *scale = largest / 127.0f;
    for (; k + 16 <= width; k += 16)
      store_codes(q + k, codes_of(vld1q_f32(x + k), inverse), codes_of(vld1q_f32(x + k + 4), inverse),
                  codes_of(vld1q_f32(x + k + 8), inverse), codes_of(vld1q_f32(x + k + 12), inverse));
    if (k < width) {
      store_codes(q + k, codes_of(load_first(x + k, width - k), inverse),
                  codes_of(load_first(x + k + 4, width - k - 4), inverse),
                  codes_of(load_first(x + k + 8, width - k - 8), inverse),
                  codes_of(load_first(x + k + 12, width - k - 12), inverse));
      k += 16;
    }
  }
  for (; k < ldq; k += 16) vst1q_s8(q + k, vdupq_n_s8(0));
}

}  // namespace aerogel
