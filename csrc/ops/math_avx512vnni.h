// 2^t for AVX-512: by a table.
#pragma once

#include "vector/avx512vnni.h"

#include "ops/math.h"

namespace aerogel {

// 2^t for a softmax, t in [-127, 127]: t = k + j/16 + f, with 2^(j/16) from a table of sixteen that a permutation looks up and
// |f| <= 1/32, so that degree 3 is enough: four multiply-adds instead of eight. Adding 1.5 * 2^19 rounds to sixteenths; a
// shift by 19 leaves j above k's power of two, and the table takes it away. 2^0 = 1 and 2^-127 = 0 exactly.
static inline Vector exp2(Vector t) {
  const __m512i table = _mm512_setr_epi32(0x0, -0x2553d, -0x46a3e, -0x63c2d, -0x7c810, -0x90ace, -0xa0129, -0xaa7c1, -0xafb0d, -0xaf75c, -0xa98d6, -0x9db74, -0x8bb03, -0x73321, -0x53f39, -0x2da83);
  const Vector bias = splat(786432.0f + 127.0f), shifted = add(t, bias), f = sub(t, sub(shifted, bias));
  const __m512i steps = _mm512_castps_si512(shifted);
  const Vector power = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_permutexvar_epi32(steps, table), _mm512_slli_epi32(steps, 19)));
  const Vector p = fma(fma(f, splat(0.0555021365f), splat(0.240234288f)), f, splat(0.693147183f));
  return fma(mul(p, f), power, power);
}

}  // namespace aerogel
