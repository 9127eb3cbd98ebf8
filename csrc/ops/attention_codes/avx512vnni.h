// What both kinds of codes need of AVX-512.
#pragma once

#include "ops/math_avx512vnni.h"

namespace aerogel {

static inline Bits sub(Bits a, Bits b) { return _mm512_sub_epi32(a, b); }
static inline Bits load_group(const std::int32_t* p) { return _mm512_loadu_si512(p); }
static inline void store_group(std::int32_t* p, Bits v) { _mm512_storeu_si512(p, v); }
static inline Bits broadcast_group(const std::int32_t* p) { return _mm512_set1_epi32(*p); }
static inline Vector scaled_by_power(Vector v, Vector t) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
static inline Vector to_floats(Bits v) { return _mm512_cvtepi32_ps(v); }

// Neighbours are joined until each 128 bits hold four rows, and then these. Row by row it would take nearly three times as many
// instructions, each waiting for the one before.
static inline void store_largest(std::uint32_t* p, const Bits (&most)[kLanes]) {
  Bits fours[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Bits *const m = most + 4 * i;
    const Bits low = max(_mm512_unpacklo_epi32(m[0], m[1]), _mm512_unpackhi_epi32(m[0], m[1]));
    const Bits high = max(_mm512_unpacklo_epi32(m[2], m[3]), _mm512_unpackhi_epi32(m[2], m[3]));
    fours[i] = max(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
  }
  const Bits low = max(_mm512_shuffle_i32x4(fours[0], fours[1], 0x44), _mm512_shuffle_i32x4(fours[0], fours[1], 0xee));
  const Bits high = max(_mm512_shuffle_i32x4(fours[2], fours[3], 0x44), _mm512_shuffle_i32x4(fours[2], fours[3], 0xee));
  _mm512_storeu_si512(p, max(_mm512_shuffle_i32x4(low, high, 0x88), _mm512_shuffle_i32x4(low, high, 0xdd)));
}

}  // namespace aerogel
