// Bare multiply-add loops and reads for NEON. Written as volatile assembly: equal sums over constants would be merged into one.
#include <arm_neon.h>

#include "limits/limits.h"

namespace aerogel {
namespace {

// smull, smlal2, sadalp: 16 multiply-adds, the way of plain NEON without dot products.
inline __attribute__((always_inline)) void madd(int32x4_t& sum, int8x16_t a, int8x16_t b) {
  int16x8_t product;
  __asm__ volatile("smull %[p].8h, %[a].8b, %[b].8b\n\tsmlal2 %[p].8h, %[a].16b, %[b].16b\n\tsadalp %[s].4s, %[p].8h"
          : [s] "+w"(sum), [p] "=&w"(product)
          : [a] "w"(a), [b] "w"(b));
}

inline __attribute__((always_inline)) void fma(float32x4_t& sum, float32x4_t a, float32x4_t b) {
  __asm__ volatile("fmla %[s].4s, %[a].4s, %[b].4s" : [s] "+w"(sum) : [a] "w"(a), [b] "w"(b));
}

}  // namespace

std::int64_t peak_int8_neon(std::int64_t rounds) {
  const int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(1);
  int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  for (std::int64_t i = 0; i < rounds; ++i) {
    madd(s0, a, b);
    madd(s1, a, b);
    madd(s2, a, b);
    madd(s3, a, b);
    madd(s4, a, b);
    madd(s5, a, b);
    madd(s6, a, b);
    madd(s7, a, b);
  }
  s0 = vaddq_s32(vaddq_s32(vaddq_s32(s0, s1), vaddq_s32(s2, s3)), vaddq_s32(vaddq_s32(s4, s5), vaddq_s32(s6, s7)));
  return static_cast<std::uint32_t>(vgetq_lane_s32(s0, 0)) == static_cast<std::uint32_t>(32 * rounds) ? 8 * 16 * rounds : 0;
}

// Four vector units with a latency of 4 are the most that there are: sixteen independent sums.
std::int64_t peak_fp32_neon(std::int64_t rounds) {
  const float32x4_t a = vdupq_n_f32(0.0f), b = vdupq_n_f32(1.0f);
  float32x4_t s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a;
  float32x4_t t0 = a, t1 = a, t2 = a, t3 = a, t4 = a, t5 = a, t6 = a, t7 = a;
  for (std::int64_t i = 0; i < rounds; ++i) {
    fma(s0, a, b);
    fma(s1, a, b);
    fma(s2, a, b);
    fma(s3, a, b);
    fma(s4, a, b);
    fma(s5, a, b);
    fma(s6, a, b);
    fma(s7, a, b);
    fma(t0, a, b);
    fma(t1, a, b);
    fma(t2, a, b);
    fma(t3, a, b);
    fma(t4, a, b);
    fma(t5, a, b);
    fma(t6, a, b);
    fma(t7, a, b);
  }
  s0 = vaddq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3)), vaddq_f32(vaddq_f32(s4, s5), vaddq_f32(s6, s7)));
  t0 = vaddq_f32(vaddq_f32(vaddq_f32(t0, t1), vaddq_f32(t2, t3)), vaddq_f32(vaddq_f32(t4, t5), vaddq_f32(t6, t7)));
  return vgetq_lane_f32(vaddq_f32(s0, t0), 0) == 0.0f ? 16 * 4 * rounds : 0;
}

std::int64_t read_neon(const void* data, std::size_t bytes) {
  const std::uint8_t* at = static_cast<const std::uint8_t*>(data);
  const std::uint8_t* const end = at + bytes;
  uint8x16_t s0 = vdupq_n_u8(0), s1 = s0, s2 = s0, s3 = s0;
  for (; at != end; at += 128) {
    s0 = vorrq_u8(s0, vld1q_u8(at));
    s1 = vorrq_u8(s1, vld1q_u8(at + 16));
    s2 = vorrq_u8(s2, vld1q_u8(at + 32));
    s3 = vorrq_u8(s3, vld1q_u8(at + 48));
    s0 = vorrq_u8(s0, vld1q_u8(at + 64));
    s1 = vorrq_u8(s1, vld1q_u8(at + 80));
    s2 = vorrq_u8(s2, vld1q_u8(at + 96));
    s3 = vorrq_u8(s3, vld1q_u8(at + 112));
  }
  return vmaxvq_u8(vorrq_u8(vorrq_u8(s0, s1), vorrq_u8(s2, s3))) == 0;
}

}  // namespace aerogel
