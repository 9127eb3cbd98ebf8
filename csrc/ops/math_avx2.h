// 2^t for AVX2: by a table.
#pragma once

#include "vector/avx2.h"

#include "ops/math.h"

namespace aerogel {

// 2^t for a softmax, t in [-127, 127]: t = k + j/8 + f, with 2^(j/8) from a table of eight that a permutation looks up and
// |f| <= 1/16, so that degree 3 is enough: four multiply-adds instead of eight. Adding 1.5 * 2^20 rounds to eighths; a
// shift by 20 leaves j above k's power of two, and the table takes it away. 2^0 = 1 and 2^-127 = 0 exactly.
// With the maximum, the load, the store and the sum of a softmax 16 operations for four pipes: 4 cycles; measured: 5.
static inline Vector eighths_bias() { return splat(1572864.0f + 127.0f); }

static inline Vector eighths_power(Vector shifted) {
  const __m256 table = _mm256_castsi256_ps(_mm256_setr_epi32(0x0, -0x46a3e, -0x7c810, -0xa0129, -0xafb0d, -0xa98d6, -0x8bb03, -0x53f39));
  const __m256i steps = _mm256_castps_si256(shifted);
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(_mm256_permutevar8x32_ps(table, steps)), _mm256_slli_epi32(steps, 20)));
}

static inline Vector exp2_reduce(Vector t, Vector* power) {
  const Vector shifted = add(t, eighths_bias());
  *power = eighths_power(shifted);
  return sub(t, sub(shifted, eighths_bias()));
}

static inline Vector exp2_fraction(Vector f, Vector power) {
  const Vector p = fma(fma(f, splat(0.0554962218f), splat(0.24025763f)), f, splat(0.693147214f));
  return fma(mul(p, f), power, power);
}

// 1 + e^x for x in [-80, 89], infinity from 88.7 on: twice 2^(t - 1), whose power of two is always a number. t = x log2 e is never
// rounded by itself; the rounding of log2 e alone adds 1.4e-8 |x| to the relative error.
template <int count>
static inline void one_plus_exp(Vector (&x)[count]) {
  const Vector log2e = splat(1.44269504f), bias = sub(eighths_bias(), splat(1.0f));
  Vector power[count];
#pragma GCC unroll 8
  for (int u = 0; u < count; ++u) {
    const Vector shifted = fma(x[u], log2e, bias);
    power[u] = eighths_power(shifted);
    x[u] = _mm256_fmsub_ps(x[u], log2e, sub(shifted, bias));
  }
#pragma GCC unroll 8
  for (int u = 0; u < count; ++u) x[u] = fma(exp2_fraction(x[u], power[u]), splat(2.0f), splat(1.0f));
}

static inline Vector exp2(Vector t) {
  Vector power;
  const Vector f = exp2_reduce(t, &power);
  return exp2_fraction(f, power);
}

}  // namespace aerogel
