// Queries and keys are signed bytes, which sdot multiplies; weights are unsigned, so values are made so too, for udot. Not timed: by its
// instructions a product takes a quarter of fmla's.
#include "ops/math_neon.h"

namespace aerogel {

static inline Bits load_group(const std::int32_t* p) { return vreinterpretq_u32_s32(vld1q_s32(p)); }
static inline void store_group(std::int32_t* p, Bits v) { vst1q_s32(p, vreinterpretq_s32_u32(v)); }
static inline Bits broadcast_group(const std::int32_t* p) { return vreinterpretq_u32_s32(vld1q_dup_s32(p)); }
static inline Vector scaled_by_power(Vector v, Vector t) {
  return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(v), vshlq_n_u32(vreinterpretq_u32_f32(t), 23)));
}
static inline Vector to_floats(Bits v) { return vcvtq_f32_s32(vreinterpretq_s32_u32(v)); }
static inline void store_largest(std::uint32_t* p, const Bits (&most)[kLanes]) {
  for (std::int64_t r = 0; r < kLanes; ++r) p[r] = max_lanes(most[r]);
}

}  // namespace aerogel

#include "ops/attention_codes/body.h"

namespace aerogel {

void attention_neon(const AttentionTask& task);

namespace {

struct Bytes {
  using Code = std::int8_t;
  static constexpr std::int64_t per = 4, step = 4 * kLanes;
  static constexpr int offset = 0, value_offset = 128;
  static constexpr AttentionKind kind = kAttentionBytes;
  static Bits splat(int v) { return vreinterpretq_u32_u8(vdupq_n_u8(static_cast<std::uint8_t>(v))); }
  static Bits dot(Bits sum, Bits a, Bits b) {
    return vreinterpretq_u32_s32(vdotq_s32(vreinterpretq_s32_u32(sum), vreinterpretq_s8_u32(a), vreinterpretq_s8_u32(b)));
  }
  static Bits weigh(Bits sum, Bits a, Bits b) { return vdotq_u32(sum, vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)); }
  // As they come.
  static int16x8_t narrow(Bits a, Bits b) { return vcombine_s16(vqmovn_s32(vreinterpretq_s32_u32(a)), vqmovn_s32(vreinterpretq_s32_u32(b))); }
  static void store_keys(Code* p, Bits a, Bits b) { vst1_s8(p, vqmovn_s16(narrow(a, b))); }
  static void store_queries(Code* p, Bits a, Bits b) { store_keys(p, a, b); }
  static void store_weights(Code* p, const Bits (&x)[4]) {
    vst1q_u8(reinterpret_cast<std::uint8_t*>(p), vcombine_u8(vqmovun_s16(narrow(x[0], x[1])), vqmovun_s16(narrow(x[2], x[3]))));
  }
  static std::int64_t key_of(std::int64_t g) { return 4 * g; }
  static Bits join(const Bits (&code)[4]) {
    static const std::uint8_t turn[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const int8x16_t bytes = vcombine_s8(vqmovn_s16(narrow(code[0], code[1])), vqmovn_s16(narrow(code[2], code[3])));
    return vreinterpretq_u32_u8(veorq_u8(vqtbl1q_u8(vreinterpretq_u8_s8(bytes), vld1q_u8(turn)), vdupq_n_u8(0x80)));
  }
};

}  // namespace

void attention_int8_neondot(const AttentionTask& task) { attention_in_codes(task) ? attend_in_codes<Bytes, 8>(task) : attention_neon(task); }

}  // namespace aerogel
