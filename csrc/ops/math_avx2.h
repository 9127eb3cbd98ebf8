// Vector mathematics and the quantization of a row, for the avx2 ops alone. Everything is static: no copy of it can
// be shared with code compiled for another instruction set. Errors, measured over all floats: docs/numerics.md.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace aerogel {

// ---- the vocabulary of the bodies that all vector instruction sets share -------------------------------------------

using Vector = __m256;
constexpr std::int64_t kLanes = 8;

static inline Vector load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
static inline Vector splat(float v) { return _mm256_set1_ps(v); }
static inline Vector broadcast(const float* p) { return _mm256_broadcast_ss(p); }
static inline Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
static inline Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
static inline Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
static inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }  // a * b + c
static inline Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }  // b where one is a NaN
static inline void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

// ---- loads and stores of the last n < 8 elements ----------------------------------------------------------------

static inline __m256i first_lanes(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Lanes from n on are 0. n may be 0 or less: nothing is touched.
static inline __m256 load_first(const float* p, std::int64_t n) {
  if (n >= 8) return _mm256_loadu_ps(p);
  if (n <= 0) return _mm256_setzero_ps();
  return _mm256_maskload_ps(p, first_lanes(n));
}

static inline void store_first(float* p, __m256 v, std::int64_t n) {
  if (n >= 8) return _mm256_storeu_ps(p, v);
  if (n > 0) _mm256_maskstore_ps(p, first_lanes(n), v);
}

// The first n < 8 lanes of a, the rest of b.
static inline Vector select_first(std::int64_t n, Vector a, Vector b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first_lanes(n)));
}

// ---- horizontal --------------------------------------------------------------------------------------------------

static inline float sum_lanes(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

static inline float max_lanes(__m256 v) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// p[0..3] = the sums of the lanes of a, b, c, d.
static inline void store_sums_of_four(float* p, Vector a, Vector b, Vector c, Vector d) {
  const __m256 sum = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1)));
}

static inline std::uint32_t max_lanes_i32(__m256i v) {
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(half));
}

// ---- exponentials ------------------------------------------------------------------------------------------------
// 2^t = 2^k 2^f with k = round(t). Adding 1.5 * 2^23 + 127 rounds, and leaves k + 127 in the low bits of the sum, so
// that a shift makes 2^k; k = -127 makes 0 and k = 128 makes infinity. A NaN stays one through the polynomial.

static inline __m256 exp2_bias() { return _mm256_set1_ps(12582912.0f + 127.0f); }

// c0 + c1 f + ... + c5 f^5 in pairs: five multiply-adds in a row would wait for each other.
static inline __m256 polynomial5(__m256 f, float c0, float c1, float c2, float c3, float c4, float c5) {
  const __m256 square = _mm256_mul_ps(f, f);
  const __m256 low = _mm256_fmadd_ps(f, _mm256_set1_ps(c1), _mm256_set1_ps(c0));
  const __m256 middle = _mm256_fmadd_ps(f, _mm256_set1_ps(c3), _mm256_set1_ps(c2));
  const __m256 high = _mm256_fmadd_ps(f, _mm256_set1_ps(c5), _mm256_set1_ps(c4));
  return _mm256_fmadd_ps(_mm256_fmadd_ps(high, square, middle), square, low);
}

// t in [-127, 128]. 2^f by a polynomial of degree 5 with 2^0 = 1 exactly.
static inline __m256 exp2_256(__m256 t) {
  const __m256 shifted = _mm256_add_ps(t, exp2_bias());
  const __m256 f = _mm256_sub_ps(t, _mm256_sub_ps(shifted, exp2_bias()));
  const __m256 p = polynomial5(f, 1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647261f);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}

// 2^t for a softmax, t in [-127, 127]: t = k + j/8 + f, with 2^(j/8) from a table of eight that a permutation looks up and
// |f| <= 1/16, so that degree 3 is enough: four multiply-adds instead of eight. Adding 1.5 * 2^20 rounds to eighths; a
// shift by 20 leaves j above k's power of two, and the table takes it away. 2^0 = 1 and 2^-127 = 0 exactly.
// With the maximum, the load, the store and the sum of a softmax 16 operations for four pipes: 4 cycles; measured: 5.
static inline __m256 exp2_reduce(__m256 t, __m256* power) {
  const __m256 table = _mm256_castsi256_ps(_mm256_setr_epi32(0x0, -0x46a3e, -0x7c810, -0xa0129, -0xafb0d, -0xa98d6, -0x8bb03, -0x53f39));
  const __m256 bias = _mm256_set1_ps(1572864.0f + 127.0f);
  const __m256 shifted = _mm256_add_ps(t, bias);
  const __m256i steps = _mm256_castps_si256(shifted);
  *power = _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(_mm256_permutevar8x32_ps(table, steps)), _mm256_slli_epi32(steps, 20)));
  return _mm256_sub_ps(t, _mm256_sub_ps(shifted, bias));
}

static inline __m256 exp2_fraction(__m256 f, __m256 power) {
  const __m256 p = _mm256_fmadd_ps(_mm256_fmadd_ps(f, _mm256_set1_ps(0.0554962218f), _mm256_set1_ps(0.24025763f)), f,
                                   _mm256_set1_ps(0.693147214f));
  return _mm256_fmadd_ps(_mm256_mul_ps(p, f), power, power);
}

static inline Vector exp2(Vector t) {
  __m256 power;
  const __m256 f = exp2_reduce(t, &power);
  return exp2_fraction(f, power);
}

// e^f - 1 = f * expm1_over(f) for |f| <= ln(2) / 2.
static inline __m256 expm1_over(__m256 f) {
  return polynomial5(f, 1.0f, 0.5f, 0.166665047f, 0.0416662395f, 0.00836915802f, 0.00139485952f);
}

// x = k ln 2 + f; ln 2 in two floats, the first short enough that k times it is exact.
static inline __m256 exp_reduce(__m256 x, __m256* power) {
  const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(1.44269504f), exp2_bias());
  const __m256 k = _mm256_sub_ps(shifted, exp2_bias());
  *power = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
  const __m256 f = _mm256_fnmadd_ps(k, _mm256_set1_ps(0.693145752f), x);
  return _mm256_fnmadd_ps(k, _mm256_set1_ps(1.42860682e-6f), f);
}

// x in [-88.03, 88.9]; infinity from 88.377 on.
static inline __m256 exp_256(__m256 x) {
  __m256 power;
  const __m256 f = exp_reduce(x, &power);
  return _mm256_mul_ps(_mm256_fmadd_ps(expm1_over(f), f, _mm256_set1_ps(1.0f)), power);
}

// ---- quantize ----------------------------------------------------------------------------------------------------
// The largest magnitude is taken on the bits, as integers: the order is the same, and a NaN or an infinity comes out
// on top instead of getting lost.

static inline __m256i magnitude_bits(__m256 v) {
  return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
}

static inline __m256i codes_of(__m256 v, __m256 inverse) { return _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse)); }

// 32 codes. No clamp: |x| * (127 / max) <= 127 (1 + 2^-23), which rounds to at most 127.
static inline void store_codes(std::int8_t* q, __m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_store_si256(reinterpret_cast<__m256i*>(q), _mm256_permutevar8x32_epi32(words, order));
}

// x[width] to q[ldq], given the bits of max |x|. Bound by the 32-bit loads and the two packs and one permute in 32 codes.
static inline void quantize_row_avx2(const float* x, std::int64_t width, std::uint32_t max_bits, std::int8_t* q,
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
    const __m256 factor = _mm256_set1_ps(inverse);
    for (; k + 32 <= width; k += 32)
      store_codes(q + k, codes_of(_mm256_loadu_ps(x + k), factor), codes_of(_mm256_loadu_ps(x + k + 8), factor),
                  codes_of(_mm256_loadu_ps(x + k + 16), factor), codes_of(_mm256_loadu_ps(x + k + 24), factor));
    if (k < width) {
      store_codes(q + k, codes_of(load_first(x + k, width - k), factor),
                  codes_of(load_first(x + k + 8, width - k - 8), factor),
                  codes_of(load_first(x + k + 16, width - k - 16), factor),
                  codes_of(load_first(x + k + 24, width - k - 24), factor));
      k += 32;
    }
  }
  for (; k < ldq; k += 32) _mm256_store_si256(reinterpret_cast<__m256i*>(q + k), _mm256_setzero_si256());
}

}  // namespace aerogel
