#include <immintrin.h>

#include "limits/body.h"

namespace aerogel {
namespace {

struct Isa {
  // int8 weights meet int8 activations as int16 pairs: vpmaddwd, vpaddd. 16 multiply-adds; bound by vpmaddwd, two a cycle on Zen 3.
  using Factor = __m256i;
  using Sum = __m256i;
  static constexpr int int8_sums = 8, int8_macs = 16;
  static Factor ones() { return _mm256_set1_epi16(1); }
  static inline __attribute__((always_inline)) void int8(Sum& sum, Factor a, Factor b) {
    __m256i product;
    __asm__ volatile("vpmaddwd %[b], %[a], %[p]\n\tvpaddd %[p], %[s], %[s]" : [s] "+x"(sum), [p] "=&x"(product) : [a] "x"(a), [b] "x"(b));
  }

  // Bound by vfmadd231ps: two a cycle with a latency of 4, so at least eight independent sums.
  using Floats = __m256;
  static constexpr int fp32_sums = 10;
  static inline __attribute__((always_inline)) void fp32(Floats& sum, Floats a, Floats b) {
    __asm__ volatile("vfmadd231ps %[b], %[a], %[s]" : [s] "+x"(sum) : [a] "x"(a), [b] "x"(b));
  }

  using Word = __m256i;
  static constexpr int chunk = 256;
  static constexpr bool prefetch = true;
};

}  // namespace

std::int64_t peak_int8_avx2(std::int64_t rounds) { return peak_int8<Isa>(rounds, std::make_index_sequence<Isa::int8_sums>()); }
std::int64_t peak_fp32_avx2(std::int64_t rounds) { return peak_fp32<Isa>(rounds, std::make_index_sequence<Isa::fp32_sums>()); }
std::int64_t read_avx2(const void* data, std::size_t bytes) { return read<Isa>(data, bytes); }

}  // namespace aerogel
