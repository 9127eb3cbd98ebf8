#include "ops/attention_codes/avx512vnni.h"

#include "ops/attention_codes/body.h"

#include "ops/attention_codes/words.h"

namespace aerogel {

void attention_avx512vnni(const AttentionTask& task);

namespace {

struct Words : WordCodes<Words> {
  // Not the intrinsic: around it GCC 12 copies and spills every sum of a tile.
  static Bits dot(Bits sum, Bits a, Bits b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
  static void store_keys(Code* p, Bits a, Bits b) { _mm512_storeu_si512(p, _mm512_packs_epi32(a, b)); }
  static Bits join(const Bits (&code)[2]) { return _mm512_mask_blend_epi16(0xaaaaaaaau, code[0], _mm512_slli_epi32(code[1], 16)); }
};

}  // namespace

void attention_int16_avx512vnni(const AttentionTask& task) {
  attention_in_codes(task) ? attend_in_codes<Words, 12>(task) : attention_avx512vnni(task);
}

}  // namespace aerogel
