#include "ops/attention_codes/avx512vnni.h"

#include "ops/attention_codes/body.h"

namespace aerogel {

void attention_avx512vnni(const AttentionTask& task);

namespace {

struct Words {
  using Code = std::int16_t;
  static constexpr std::int64_t per = 2, step = kPanel;
  static constexpr int offset = 0;
  static constexpr AttentionKind kind = kAttentionWords;
  // Not the intrinsic: around it GCC 12 copies and spills every sum of a tile.
  static Bits dot(Bits sum, Bits a, Bits b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
  // Four of a, four of b, and so on.
  static void store_keys(Code* p, Bits a, Bits b) { _mm512_storeu_si512(p, _mm512_packs_epi32(a, b)); }
  static void store_queries(Code* p, Bits a, Bits b) { store_keys(p, a, b); }
  static void store_weights(Code* p, const Bits (&x)[2]) { store_keys(p, x[0], x[1]); }
  static std::int64_t key_of(std::int64_t g) { return g / 4 * 4 + (g & 1) * 2 + (g & 2) / 2 * kLanes; }
  static Bits join(const Bits (&code)[2]) { return _mm512_mask_blend_epi16(0xaaaaaaaau, code[0], _mm512_slli_epi32(code[1], 16)); }
};

}  // namespace

void attention_int16_avx512vnni(const AttentionTask& task) {
  attention_in_codes(task) ? attend_in_codes<Words, 12>(task) : attention_avx512vnni(task);
}

}  // namespace aerogel
