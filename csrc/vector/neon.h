// The vocabulary for NEON.
#pragma once

#include <arm_neon.h>

#include "vector/vector.h"

namespace aerogel {

using Vector = float32x4_t;
using Vector4 = Vector;
using Vector8 = Vector;
using Bits = uint32x4_t;
constexpr std::int64_t kLanes = 4;
constexpr int kCodeVectors = 4;  // whose codes are stored together

static inline Vector load(const float* p) { return vld1q_f32(p); }
static inline void load(const float* p, Vector& v) { v = load(p); }
static inline void store(float* p, Vector v) { vst1q_f32(p, v); }
static inline Vector splat(float v) { return vdupq_n_f32(v); }
static inline Vector broadcast(const float* p) { return vld1q_dup_f32(p); }
static inline Vector fma(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }   // a * b + c
static inline Vector fnma(Vector a, Vector b, Vector c) { return vfmsq_f32(c, a, b); }  // c - a * b
static inline Vector max(Vector a, Vector b) { return vmaxq_f32(a, b); }  // a NaN where one is
static inline Vector min(Vector a, Vector b) { return vminq_f32(a, b); }  // a NaN where one is
static inline Vector magnitude(Vector v) { return vabsq_f32(v); }
// v >= 0, with the sign of x
static inline Vector with_sign_of(Vector x, Vector v) { return vbslq_f32(vdupq_n_u32(0x80000000u), x, v); }
// a * b - c * d, the first product rounded
static inline Vector mul_sub(Vector a, Vector b, Vector c, Vector d) { return vfmsq_f32(mul(a, b), c, d); }
// The low 9 bits of each lane become sign and exponent.
static inline Vector power_of(Vector v) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(v), 23)); }

// ---- the first n lanes: n may be under 0 or over 4; memory beyond n is not touched ----------------------------------

// Lanes from n on are 0.
static inline Vector load_first(const float* p, std::int64_t n) {
  if (n >= 4) return load(p);
  float lanes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (std::int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}

static inline void store_first(float* p, Vector v, std::int64_t n) {
  if (n >= 4) return store(p, v);
  float lanes[4];
  store(lanes, v);
  for (std::int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

static inline uint32x4_t first_lanes(std::int64_t n) {
  static const std::int32_t lanes[4] = {0, 1, 2, 3};
  return vcltq_s32(vld1q_s32(lanes), vdupq_n_s32(static_cast<std::int32_t>(n)));
}

// a, and from n on b or 0
static inline Vector select_first(std::int64_t n, Vector a, Vector b) { return vbslq_f32(first_lanes(n), a, b); }
static inline Vector keep_first(std::int64_t n, Vector a) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), first_lanes(n)));
}

static inline Vector load_first(const float* p, All) { return load(p); }
static inline void store_first(float* p, Vector v, All) { store(p, v); }
static inline Vector keep_first(All, Vector a) { return a; }

// ---- across lanes ---------------------------------------------------------------------------------------------------

static inline float max_lanes(Vector v) { return vmaxvq_f32(v); }
static inline float sum_lanes(Vector v) { return vaddvq_f32(v); }

// p[0..3] = the sums of the lanes of a, b, c, d.
static inline void store_sums_of_four(float* p, Vector a, Vector b, Vector c, Vector d) {
  store(p, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

// Four floats, each in all lanes of one vector; a multiplication takes it from a lane by itself.
static inline void broadcast_four(const float* p, Vector (&out)[4]) {
  const Vector four = load(p);
  out[0] = vdupq_laneq_f32(four, 0);
  out[1] = vdupq_laneq_f32(four, 1);
  out[2] = vdupq_laneq_f32(four, 2);
  out[3] = vdupq_laneq_f32(four, 3);
}

// x[column[0]], ..., x[column[3]]
static inline Vector gather_four(const float* x, const std::size_t* column) {
  Vector four = vld1q_dup_f32(x + column[0]);
  four = vld1q_lane_f32(x + column[1], four, 1);
  four = vld1q_lane_f32(x + column[2], four, 2);
  return vld1q_lane_f32(x + column[3], four, 3);
}

// from[index[0]], from[index[1]], ..., where an index is the one before or one more.
static inline void look_up(const float* from, const std::int32_t* index, Vector& v) {
  const int32x4_t lanes = vsubq_s32(vld1q_s32(index), vdupq_n_s32(index[0]));
  const int32x4_t bytes = vmlaq_s32(vdupq_n_s32(0x03020100), lanes, vdupq_n_s32(0x04040404));
  v = vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(load(from + index[0])), vreinterpretq_u8_s32(bytes)));
}

// Rows become columns.
static inline void transpose(Vector (&r)[4]) {
  const float64x2_t ab0 = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])), ab1 = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
  const float64x2_t cd0 = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])), cd1 = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
  r[0] = vreinterpretq_f32_f64(vtrn1q_f64(ab0, cd0));
  r[1] = vreinterpretq_f32_f64(vtrn1q_f64(ab1, cd1));
  r[2] = vreinterpretq_f32_f64(vtrn2q_f64(ab0, cd0));
  r[3] = vreinterpretq_f32_f64(vtrn2q_f64(ab1, cd1));
}

// ---- magnitudes and codes -------------------------------------------------------------------------------------------

static inline Bits magnitude_bits(Vector v) { return vreinterpretq_u32_f32(vabsq_f32(v)); }
static inline Bits max(Bits a, Bits b) { return vmaxq_u32(a, b); }
static inline std::uint32_t max_lanes(Bits v) { return vmaxvq_u32(v); }

// Rounded to integers, half to even.
static inline Bits codes_of(Vector v) { return vreinterpretq_u32_s32(vcvtnq_s32_f32(v)); }

// Codes in [-128, 127] to bytes.
static inline void store_codes(std::int8_t* q, const Bits (&codes)[kCodeVectors]) {
  const uint16x8_t low = vcombine_u16(vmovn_u32(codes[0]), vmovn_u32(codes[1])), high = vcombine_u16(vmovn_u32(codes[2]), vmovn_u32(codes[3]));
  vst1q_s8(q, vreinterpretq_s8_u8(vcombine_u8(vmovn_u16(low), vmovn_u16(high))));
}

static inline Vector load_bf16(const std::uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline Vector load_f16(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
// Rounded half to even; beyond the largest f16 it is that; a NaN stays one.
static inline void store_f16(std::uint16_t* p, Vector v) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(max(splat(-65504.0f), min(splat(65504.0f), v)))));
}
static inline Vector load_q8(const std::int8_t* p) {
  std::int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  const int16x8_t codes = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes)));
}

static inline void load_codes(const std::int8_t* q, Vector (&out)[2]) {
  const int16x8_t codes = vmovl_s8(vld1_s8(q));
  out[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes)));
  out[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(codes)));
}

}  // namespace aerogel
