#include "ops/math_avx512vnni.h"

namespace aerogel {

// Not the intrinsic: around it GCC 12 copies and spills every sum of a tile.
static inline Bits dot_pairs(Bits sum, Bits a, Bits b) {
  __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
static inline Bits join_pairs(Bits even, Bits odd) { return _mm512_mask_blend_epi16(0xaaaaaaaau, even, _mm512_slli_epi32(odd, 16)); }
static inline Bits load_pairs(const std::int32_t* p) { return _mm512_loadu_si512(p); }
static inline void store_pairs(std::int32_t* p, Bits v) { _mm512_storeu_si512(p, v); }
static inline Bits broadcast_pair(const std::int32_t* p) { return _mm512_set1_epi32(*p); }
static inline Vector scaled_by_power(Vector v, Vector t) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
static inline Vector to_floats(Bits v) { return _mm512_cvtepi32_ps(v); }
static inline void store_words(std::int16_t* p, Bits a, Bits b) {
  _mm512_storeu_si512(p, _mm512_packs_epi32(a, b));
}

}  // namespace aerogel

#include "ops/attention_int16/body.h"

namespace aerogel {

void attention_avx512vnni(const AttentionTask& task);

void attention_int16_avx512vnni(const AttentionTask& task) { attention_in_words(task) ? attend_in_words<12>(task) : attention_avx512vnni(task); }

}  // namespace aerogel
