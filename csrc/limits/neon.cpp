#include <arm_neon.h>

#include "limits/body.h"

namespace aerogel {
namespace {

struct Isa {
  // smull, smlal2, sadalp: 16 multiply-adds, the way of plain NEON without dot products.
  using Factor = int8x16_t;
  using Sum = int32x4_t;
  static constexpr int int8_sums = 8, int8_macs = 16;
  static Factor ones() { return vdupq_n_s8(1); }
  static inline __attribute__((always_inline)) void int8(Sum& sum, Factor a, Factor b) {
    int16x8_t product;
    __asm__ volatile("smull %[p].8h, %[a].8b, %[b].8b\n\tsmlal2 %[p].8h, %[a].16b, %[b].16b\n\tsadalp %[s].4s, %[p].8h"
            : [s] "+w"(sum), [p] "=&w"(product)
            : [a] "w"(a), [b] "w"(b));
  }

  // Four vector units with a latency of 4 are the most that there are: sixteen independent sums.
  using Floats = float32x4_t;
  static constexpr int fp32_sums = 16;
  static inline __attribute__((always_inline)) void fp32(Floats& sum, Floats a, Floats b) {
    __asm__ volatile("fmla %[s].4s, %[a].4s, %[b].4s" : [s] "+w"(sum) : [a] "w"(a), [b] "w"(b));
  }

  using Word = uint8x16_t;
  static constexpr int chunk = 128;
  static constexpr bool prefetch = false;
};

}  // namespace

std::int64_t peak_int8_neon(std::int64_t rounds) { return peak_int8<Isa>(rounds, std::make_index_sequence<Isa::int8_sums>()); }
std::int64_t peak_fp32_neon(std::int64_t rounds) { return peak_fp32<Isa>(rounds, std::make_index_sequence<Isa::fp32_sums>()); }
std::int64_t read_neon(const void* data, std::size_t bytes) { return read<Isa>(data, bytes); }

}  // namespace aerogel
