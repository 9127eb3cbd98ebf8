#include "ops/math_avx2.h"

namespace aerogel {

// In assembly: compilers move the products away from their sums, and then run out of registers.
static inline Bits dot_pairs(Bits sum, Bits a, Bits b) {
  Bits products;
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(a), "x"(b));
  return sum;
}
static inline Bits join_pairs(Bits even, Bits odd) { return _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa); }
static inline Bits load_pairs(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
static inline void store_pairs(std::int32_t* p, Bits v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
static inline Bits broadcast_pair(const std::int32_t* p) { return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p))); }
static inline Vector scaled_by_power(Vector v, Vector t) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
static inline Vector to_floats(Bits v) { return _mm256_cvtepi32_ps(v); }
static inline void store_words(std::int16_t* p, Bits a, Bits b) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_packs_epi32(a, b));
}

}  // namespace aerogel

#include "ops/attention_int16/body.h"

namespace aerogel {

void attention_avx2(const AttentionTask& task);

void attention_int16_avx2(const AttentionTask& task) { attention_in_words(task) ? attend_in_words<6>(task) : attention_avx2(task); }

}  // namespace aerogel
