// The vocabulary for AVX2 with FMA.
#pragma once

#include "vector/avx.h"

namespace aerogel {

using Vector = __m256;
using Bits = __m256i;
constexpr std::int64_t kLanes = 8;
constexpr int kCodeVectors = 4;  // whose codes are stored together

static inline Vector load(const float* p) { return _mm256_loadu_ps(p); }
static inline Vector splat(float v) { return _mm256_set1_ps(v); }
static inline Vector broadcast(const float* p) { return _mm256_broadcast_ss(p); }
static inline Vector fnma(Vector a, Vector b, Vector c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
static inline Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }  // b where one is a NaN
static inline Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }  // b where one is a NaN
static inline Vector magnitude(Vector v) { return _mm256_andnot_ps(splat(-0.0f), v); }
// v >= 0, with the sign of x
static inline Vector with_sign_of(Vector x, Vector v) { return _mm256_or_ps(v, _mm256_and_ps(splat(-0.0f), x)); }
// a * b - c * d, the second product rounded
static inline Vector mul_sub(Vector a, Vector b, Vector c, Vector d) { return _mm256_fmsub_ps(a, b, mul(c, d)); }
// The low 9 bits of each lane become sign and exponent.
static inline Vector power_of(Vector v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 23)); }

// ---- the first n lanes: n may be under 0 or over 8; memory beyond n is not touched ----------------------------------

static inline Bits first_lanes(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Lanes from n on are 0.
static inline Vector load_first(const float* p, std::int64_t n) {
  if (n >= 8) return load(p);
  if (n <= 0) return splat(0.0f);
  return _mm256_maskload_ps(p, first_lanes(n));
}

static inline void store_first(float* p, Vector v, std::int64_t n) {
  if (n >= 8) return store(p, v);
  if (n > 0) _mm256_maskstore_ps(p, first_lanes(n), v);
}

// a, and from n on b or 0
static inline Vector select_first(std::int64_t n, Vector a, Vector b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first_lanes(n)));
}
static inline Vector keep_first(std::int64_t n, Vector a) { return _mm256_and_ps(a, _mm256_castsi256_ps(first_lanes(n))); }

static inline Vector load_first(const float* p, All) { return load(p); }
static inline void store_first(float* p, Vector v, All) { store(p, v); }
static inline Vector keep_first(All, Vector a) { return a; }

// ---- across lanes ---------------------------------------------------------------------------------------------------

static inline float sum_lanes(Vector v) { return sum_lanes(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1))); }

static inline float max_lanes(Vector v) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// p[0..3] = the sums of the lanes of a, b, c, d.
static inline void store_sums_of_four(float* p, Vector a, Vector b, Vector c, Vector d) {
  const __m256 sum = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1)));
}

// Four floats, each in all lanes of one vector: one load and shuffles leave the load ports to what is multiplied. Compilers would
// make four loads of it again.
static inline void broadcast_four(const float* p, Vector (&out)[4]) {
  Vector four = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
  __asm__("" : "+x"(four));
  out[0] = _mm256_permute_ps(four, 0x00);
  out[1] = _mm256_permute_ps(four, 0x55);
  out[2] = _mm256_permute_ps(four, 0xaa);
  out[3] = _mm256_permute_ps(four, 0xff);
}
static inline void broadcast_four(const float* p, Vector4 (&out)[4]) {
  Vector4 four = _mm_loadu_ps(p);
  __asm__("" : "+x"(four));
  out[0] = _mm_permute_ps(four, 0x00);
  out[1] = _mm_permute_ps(four, 0x55);
  out[2] = _mm_permute_ps(four, 0xaa);
  out[3] = _mm_permute_ps(four, 0xff);
}

// ---- magnitudes and codes -------------------------------------------------------------------------------------------

static inline Bits magnitude_bits(Vector v) { return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff)); }
static inline Bits max(Bits a, Bits b) { return _mm256_max_epi32(a, b); }

static inline std::uint32_t max_lanes(Bits v) {
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(half));
}

// Rounded to integers, half to even.
static inline Bits codes_of(Vector v) { return _mm256_cvtps_epi32(v); }

// Codes in [-128, 127] to bytes, 32-byte aligned: two packs and one permute for 32.
static inline void store_codes(std::int8_t* q, const Bits (&codes)[kCodeVectors]) {
  const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_store_si256(reinterpret_cast<__m256i*>(q), _mm256_permutevar8x32_epi32(words, order));
}

static inline Vector load_bf16(const std::uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
static inline Vector load_f16(const std::uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
// Rounded half to even; beyond the largest f16 it is that; a NaN stays one.
static inline void store_f16(std::uint16_t* p, Vector v) {
  const Vector cut = max(splat(-65504.0f), min(splat(65504.0f), v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(cut, _MM_FROUND_TO_NEAREST_INT));
}
static inline Vector load_q8(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

static inline void load_codes(const std::int8_t* q, Vector (&out)[2]) {
  for (int i = 0; i < 2; ++i)
    out[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q + 8 * i))));
}

}  // namespace aerogel
