// Vector mathematics and the quantization of a row, for the avx512vnni ops alone. Everything is static: no copy of it can
// be shared with code compiled for another instruction set. Errors, measured over all floats: docs/numerics.md.
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

#include <cstdint>

namespace aerogel {

// ---- the vocabulary of the bodies that all vector instruction sets share -------------------------------------------

using Vector = __m512;
constexpr std::int64_t kLanes = 16;

static inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
static inline Vector splat(float v) { return _mm512_set1_ps(v); }
static inline Vector broadcast(const float* p) { return _mm512_set1_ps(*p); }
static inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
static inline Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
static inline Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
static inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
static inline Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }  // b where one is a NaN
static inline void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

// ---- the first n elements: n may be under 0 or over 16; what lies beyond n is 0, and not touched ---------------------

static inline __mmask16 first_lanes(std::int64_t n) {
  return n >= 16 ? static_cast<__mmask16>(0xffff) : n <= 0 ? static_cast<__mmask16>(0) : static_cast<__mmask16>((1u << n) - 1);
}

static inline __m512 load_first(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }

static inline void store_first(float* p, __m512 v, std::int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

// The first n lanes of a, the rest of b.
static inline Vector select_first(std::int64_t n, Vector a, Vector b) { return _mm512_mask_blend_ps(first_lanes(n), b, a); }

// ---- horizontal --------------------------------------------------------------------------------------------------

static inline __m512 swap_halves(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0x4e); }
static inline __m512 swap_quarters(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0xb1); }

static inline float sum_lanes(__m512 v) {
  v = _mm512_add_ps(v, swap_halves(v));
  v = _mm512_add_ps(v, swap_quarters(v));
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
  return _mm512_cvtss_f32(_mm512_add_ps(v, _mm512_permute_ps(v, 0xb1)));
}

static inline float max_lanes(__m512 v) {
  v = _mm512_max_ps(v, swap_halves(v));
  v = _mm512_max_ps(v, swap_quarters(v));
  v = _mm512_max_ps(v, _mm512_permute_ps(v, 0x4e));
  return _mm512_cvtss_f32(_mm512_max_ps(v, _mm512_permute_ps(v, 0xb1)));
}

// p[0..3] = the sums of the lanes of a, b, c, d.
static inline void store_sums_of_four(float* p, Vector a, Vector b, Vector c, Vector d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 sum = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

static inline std::uint32_t max_lanes_i32(__m512i v) {
  v = _mm512_max_epi32(v, _mm512_shuffle_i32x4(v, v, 0x4e));
  v = _mm512_max_epi32(v, _mm512_shuffle_i32x4(v, v, 0xb1));
  v = _mm512_max_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
  v = _mm512_max_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(v)));
}

// ---- exponentials ------------------------------------------------------------------------------------------------
// 2^t = 2^k 2^f with k = round(t). Adding 1.5 * 2^23 + 127 rounds, and leaves k + 127 in the low bits of the sum, so
// that a shift makes 2^k; k = -127 makes 0 and k = 128 makes infinity. A NaN stays one through the polynomial.

static inline __m512 exp2_bias() { return _mm512_set1_ps(12582912.0f + 127.0f); }

// c0 + c1 f + ... + c5 f^5 in pairs: five multiply-adds in a row would wait for each other.
static inline __m512 polynomial5(__m512 f, float c0, float c1, float c2, float c3, float c4, float c5) {
  const __m512 square = _mm512_mul_ps(f, f);
  const __m512 low = _mm512_fmadd_ps(f, _mm512_set1_ps(c1), _mm512_set1_ps(c0));
  const __m512 middle = _mm512_fmadd_ps(f, _mm512_set1_ps(c3), _mm512_set1_ps(c2));
  const __m512 high = _mm512_fmadd_ps(f, _mm512_set1_ps(c5), _mm512_set1_ps(c4));
  return _mm512_fmadd_ps(_mm512_fmadd_ps(high, square, middle), square, low);
}

// t in [-127, 128]. 2^f by a polynomial of degree 5 with 2^0 = 1 exactly.
static inline __m512 exp2_512(__m512 t) {
  const __m512 shifted = _mm512_add_ps(t, exp2_bias());
  const __m512 f = _mm512_sub_ps(t, _mm512_sub_ps(shifted, exp2_bias()));
  const __m512 p = polynomial5(f, 1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647261f);
  return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

// 2^t for a softmax, t in [-127, 127]: t = k + j/16 + f, with 2^(j/16) from a table of sixteen that a permutation looks up and
// |f| <= 1/32, so that degree 3 is enough: four multiply-adds instead of eight. Adding 1.5 * 2^19 rounds to sixteenths; a
// shift by 19 leaves j above k's power of two, and the table takes it away. 2^0 = 1 and 2^-127 = 0 exactly.
static inline Vector exp2(Vector t) {
  const __m512i table = _mm512_setr_epi32(0x0, -0x2553d, -0x46a3e, -0x63c2d, -0x7c810, -0x90ace, -0xa0129, -0xaa7c1, -0xafb0d, -0xaf75c, -0xa98d6, -0x9db74, -0x8bb03, -0x73321, -0x53f39, -0x2da83);
  const __m512 bias = _mm512_set1_ps(786432.0f + 127.0f);
  const __m512 shifted = _mm512_add_ps(t, bias);
  const __m512 f = _mm512_sub_ps(t, _mm512_sub_ps(shifted, bias));
  const __m512i steps = _mm512_castps_si512(shifted);
  const __m512 power = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_permutexvar_epi32(steps, table), _mm512_slli_epi32(steps, 19)));
  const __m512 p = _mm512_fmadd_ps(_mm512_fmadd_ps(f, _mm512_set1_ps(0.0555021365f), _mm512_set1_ps(0.240234288f)), f,
                                   _mm512_set1_ps(0.693147183f));
  return _mm512_fmadd_ps(_mm512_mul_ps(p, f), power, power);
}

// e^f - 1 = f * expm1_over(f) for |f| <= ln(2) / 2.
static inline __m512 expm1_over(__m512 f) {
  return polynomial5(f, 1.0f, 0.5f, 0.166665047f, 0.0416662395f, 0.00836915802f, 0.00139485952f);
}

// x = k ln 2 + f; ln 2 in two floats, the first short enough that k times it is exact.
static inline __m512 exp_reduce(__m512 x, __m512* power) {
  const __m512 shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504f), exp2_bias());
  const __m512 k = _mm512_sub_ps(shifted, exp2_bias());
  *power = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23));
  const __m512 f = _mm512_fnmadd_ps(k, _mm512_set1_ps(0.693145752f), x);
  return _mm512_fnmadd_ps(k, _mm512_set1_ps(1.42860682e-6f), f);
}

// x in [-88.03, 88.9]; infinity from 88.377 on.
static inline __m512 exp_512(__m512 x) {
  __m512 power;
  const __m512 f = exp_reduce(x, &power);
  return _mm512_mul_ps(_mm512_fmadd_ps(expm1_over(f), f, _mm512_set1_ps(1.0f)), power);
}

// ---- quantize ----------------------------------------------------------------------------------------------------
// The largest magnitude is taken on the bits, as integers: the order is the same, and a NaN or an infinity comes out
// on top instead of getting lost.

static inline __m512i magnitude_bits(__m512 v) {
  return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

static inline __m512i codes_of(__m512 v, __m512 inverse) { return _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse)); }

// 16 codes. No clamp: |x| * (127 / max) <= 127 (1 + 2^-23), which rounds to at most 127.
static inline void store_codes(std::int8_t* q, __m512i codes) {
  _mm_store_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(codes));
}

// x[width] to q[ldq], given the bits of max |x|.
static inline void quantize_row_avx512vnni(const float* x, std::int64_t width, std::uint32_t max_bits, std::int8_t* q,
                                           std::int64_t ldq, float* scale) {
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(max_bits))));
  const float inverse = 127.0f / largest;
  const bool poison = max_bits >= 0x7f800000u;
  const bool zero = !(inverse <= 3.402823466e38f);
  std::int64_t k = 0;
  if (poison || zero) {
    *scale = poison ? __builtin_nanf("") : 0.0f;
  } else {
    *scale = largest / 127.0f;
    const __m512 factor = _mm512_set1_ps(inverse);
    for (; k + 16 <= width; k += 16) store_codes(q + k, codes_of(_mm512_loadu_ps(x + k), factor));
    if (k < width) {
      store_codes(q + k, codes_of(load_first(x + k, width - k), factor));
      k += 16;
    }
  }
  for (; k < ldq; k += 16) _mm_store_si128(reinterpret_cast<__m128i*>(q + k), _mm_setzero_si128());
}

}  // namespace aerogel
