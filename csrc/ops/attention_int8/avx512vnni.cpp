#include "ops/attention_codes/avx512vnni.h"

#include "ops/attention_codes/body.h"

namespace aerogel {

void attention_avx512vnni(const AttentionTask& task);

namespace {

struct Bytes {
  using Code = std::int8_t;
  static constexpr std::int64_t per = 4, step = 4 * kLanes;
  static constexpr int offset = 128, value_offset = 0;
  static constexpr AttentionKind kind = kAttentionBytes;
  static Bits splat(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  // a unsigned. Not the intrinsic: around it GCC 12 copies and spills every sum of a tile.
  static Bits dot(Bits sum, Bits a, Bits b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
  static Bits weigh(Bits sum, Bits a, Bits b) { return dot(sum, a, b); }
  // As they come.
  static __m256i narrow(Bits a, Bits b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm512_cvtsepi32_epi8(a)), _mm512_cvtsepi32_epi8(b), 1);
  }
  static void store_keys(Code* p, Bits a, Bits b) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a, b)); }
  static void store_queries(Code* p, Bits a, Bits b) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_xor_si256(narrow(a, b), _mm256_set1_epi8(-128)));
  }
  // Four of each, and so on: a group is four neighbours.
  static void store_weights(Code* p, const Bits (&x)[4]) {
    _mm512_storeu_si512(p, _mm512_packus_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3])));
  }
  static std::int64_t key_of(std::int64_t g) { return g % 4 * kLanes + g / 4 * 4; }
  static Bits join(const Bits (&code)[4]) {
    const Bits bytes = _mm512_packs_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
    const Bits turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_shuffle_epi8(bytes, turn);
  }
};

}  // namespace

void attention_int8_avx512vnni(const AttentionTask& task) {
  attention_in_codes(task) ? attend_in_codes<Bytes, 12>(task) : attention_avx512vnni(task);
}

}  // namespace aerogel
