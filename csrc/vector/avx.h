// What AVX2 and AVX-512 share: vectors of 4 and of 8 floats.
#pragma once

#include <immintrin.h>

#include "vector/vector.h"

namespace aerogel {

using Vector4 = __m128;
using Vector8 = __m256;

static inline void load(const float* p, Vector4& v) { v = _mm_loadu_ps(p); }
static inline void load(const float* p, Vector8& v) { v = _mm256_loadu_ps(p); }
static inline void store(float* p, Vector4 v) { _mm_storeu_ps(p, v); }
static inline void store(float* p, Vector8 v) { _mm256_storeu_ps(p, v); }
static inline Vector4 fma(Vector4 a, Vector4 b, Vector4 c) { return _mm_fmadd_ps(a, b, c); }  // a * b + c
static inline Vector8 fma(Vector8 a, Vector8 b, Vector8 c) { return _mm256_fmadd_ps(a, b, c); }

static inline float sum_lanes(Vector4 v) {
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

// x[column[0]], ..., x[column[3]]: four loads, which a gather instruction is slower than.
static inline Vector4 gather_four(const float* x, const std::size_t* column) {
  Vector4 four = _mm_load_ss(x + column[0]);
  four = _mm_insert_ps(four, _mm_load_ss(x + column[1]), 0x10);
  four = _mm_insert_ps(four, _mm_load_ss(x + column[2]), 0x20);
  return _mm_insert_ps(four, _mm_load_ss(x + column[3]), 0x30);
}

// from[index[0]], from[index[1]], ..., where an index is the one before or one more.
static inline void look_up(const float* from, const std::int32_t* index, Vector8& v) {
  const __m256i lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
  v = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + index[0]), _mm256_sub_epi32(lanes, _mm256_set1_epi32(index[0])));
}

// Rows become columns.
static inline void transpose(Vector4 (&r)[4]) { _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]); }

static inline void transpose(Vector8 (&r)[8]) {
  Vector8 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

}  // namespace aerogel
