// The vocabulary for AVX-512.
#pragma once

// GCC 12 warns about its own _mm512_undefined_ps wherever an intrinsic uses it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "vector/avx.h"

namespace aerogel {

using Vector = __m512;
using Bits = __m512i;
constexpr std::int64_t kLanes = 16;
constexpr int kCodeVectors = 4;  // whose codes are stored together

static inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
static inline void load(const float* p, Vector& v) { v = load(p); }
static inline void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
static inline Vector splat(float v) { return _mm512_set1_ps(v); }
static inline Vector broadcast(const float* p) { return _mm512_set1_ps(*p); }
static inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
static inline Vector fnma(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
static inline Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }  // b where one is a NaN
static inline Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }  // b where one is a NaN
static inline Vector magnitude(Vector v) { return _mm512_andnot_ps(splat(-0.0f), v); }
// v >= 0, with the sign of x
static inline Vector with_sign_of(Vector x, Vector v) { return _mm512_or_ps(v, _mm512_and_ps(splat(-0.0f), x)); }
// a * b - c * d, the second product rounded
static inline Vector mul_sub(Vector a, Vector b, Vector c, Vector d) { return _mm512_fmsub_ps(a, b, mul(c, d)); }
// The low 9 bits of each lane become sign and exponent.
static inline Vector power_of(Vector v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 23)); }

// ---- the first n lanes: n may be under 0 or over 16; memory beyond n is not touched ---------------------------------

static inline __mmask16 first_lanes(std::int64_t n) {
  return n >= 16 ? static_cast<__mmask16>(0xffff) : n <= 0 ? static_cast<__mmask16>(0) : static_cast<__mmask16>((1u << n) - 1);
}

// Lanes from n on are 0.
static inline Vector load_first(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static inline void store_first(float* p, Vector v, std::int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

// a, and from n on b or 0
static inline Vector select_first(std::int64_t n, Vector a, Vector b) { return _mm512_mask_blend_ps(first_lanes(n), b, a); }
static inline Vector keep_first(std::int64_t n, Vector a) { return _mm512_maskz_mov_ps(first_lanes(n), a); }

static inline Vector load_first(const float* p, All) { return load(p); }
static inline void store_first(float* p, Vector v, All) { store(p, v); }
static inline Vector keep_first(All, Vector a) { return a; }

// ---- across lanes ---------------------------------------------------------------------------------------------------

static inline Vector swap_halves(Vector v) { return _mm512_shuffle_f32x4(v, v, 0x4e); }
static inline Vector swap_quarters(Vector v) { return _mm512_shuffle_f32x4(v, v, 0xb1); }

static inline float sum_lanes(Vector v) {
  v = add(v, swap_halves(v));
  v = add(v, swap_quarters(v));
  v = add(v, _mm512_permute_ps(v, 0x4e));
  return _mm512_cvtss_f32(add(v, _mm512_permute_ps(v, 0xb1)));
}

static inline float max_lanes(Vector v) {
  v = max(v, swap_halves(v));
  v = max(v, swap_quarters(v));
  v = max(v, _mm512_permute_ps(v, 0x4e));
  return _mm512_cvtss_f32(max(v, _mm512_permute_ps(v, 0xb1)));
}

// p[0..3] = the sums of the lanes of a, b, c, d.
static inline void store_sums_of_four(float* p, Vector a, Vector b, Vector c, Vector d) {
  const __m512 ab = add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 sum = add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

// Four floats, each in all lanes of one vector.
static inline void broadcast_four(const float* p, Vector (&out)[4]) {
  for (int i = 0; i < 4; ++i) out[i] = broadcast(p + i);
}
static inline void broadcast_four(const float* p, Vector8 (&out)[4]) {
  for (int i = 0; i < 4; ++i) out[i] = _mm256_broadcast_ss(p + i);
}
static inline void broadcast_four(const float* p, Vector4 (&out)[4]) {
  for (int i = 0; i < 4; ++i) out[i] = _mm_broadcast_ss(p + i);
}

// ---- magnitudes and codes -------------------------------------------------------------------------------------------

static inline Bits magnitude_bits(Vector v) { return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)); }
static inline Bits max(Bits a, Bits b) { return _mm512_max_epi32(a, b); }

static inline std::uint32_t max_lanes(Bits v) {
  v = max(v, _mm512_shuffle_i32x4(v, v, 0x4e));
  v = max(v, _mm512_shuffle_i32x4(v, v, 0xb1));
  v = max(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
  v = max(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(v)));
}

// Rounded to integers, half to even.
static inline Bits codes_of(Vector v) { return _mm512_cvtps_epi32(v); }

// Codes in [-128, 127] to bytes, 64-byte aligned: three packs and one permute for 64. Narrowing a vector at a time takes port 5 twice
// as often (on Emerald Rapids 4.25 cycles for 16 codes with their search for the largest, 3.85 with packs).
static inline void store_codes(std::int8_t* q, const Bits (&codes)[kCodeVectors]) {
  const __m512i words = _mm512_packs_epi16(_mm512_packs_epi32(codes[0], codes[1]), _mm512_packs_epi32(codes[2], codes[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_store_si512(q, _mm512_permutexvar_epi32(order, words));
}

static inline Vector load_bf16(const std::uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
static inline Vector load_f16(const std::uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
// Rounded half to even; beyond the largest f16 it is that; a NaN stays one.
static inline void store_f16(std::uint16_t* p, Vector v) {
  const Vector cut = max(splat(-65504.0f), min(splat(65504.0f), v));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(cut, _MM_FROUND_TO_NEAREST_INT));
}
static inline Vector load_q8(const std::int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

static inline void load_codes(const std::int8_t* q, Vector (&out)[2]) {
  for (int i = 0; i < 2; ++i)
    out[i] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 16 * i))));
}

}  // namespace aerogel
