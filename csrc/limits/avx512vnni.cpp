#include <immintrin.h>

#include "limits/body.h"

namespace aerogel {
namespace {

struct Isa {
  // Bound by vpdpbusd: 64 multiply-adds each, two a cycle with a latency of 4 or 5, so ten independent sums.
  using Factor = __m512i;
  using Sum = __m512i;
  static constexpr int int8_sums = 10, int8_macs = 64;
  static Factor ones() { return _mm512_set1_epi8(1); }
  static inline __attribute__((always_inline)) void int8(Sum& sum, Factor a, Factor b) {
    __asm__ volatile("vpdpbusd %[b], %[a], %[s]" : [s] "+v"(sum) : [a] "v"(a), [b] "v"(b));
  }

  // Bound by vfmadd231ps: two a cycle where the CPU has two such units, latency 4.
  using Floats = __m512;
  static constexpr int fp32_sums = 10;
  static inline __attribute__((always_inline)) void fp32(Floats& sum, Floats a, Floats b) {
    __asm__ volatile("vfmadd231ps %[b], %[a], %[s]" : [s] "+v"(sum) : [a] "v"(a), [b] "v"(b));
  }

  using Word = __m512i;
  static constexpr int chunk = 256;
  static constexpr bool prefetch = true;
};

}  // namespace

std::int64_t peak_int8_avx512vnni(std::int64_t rounds) { return peak_int8<Isa>(rounds, std::make_index_sequence<Isa::int8_sums>()); }
std::int64_t peak_fp32_avx512vnni(std::int64_t rounds) { return peak_fp32<Isa>(rounds, std::make_index_sequence<Isa::fp32_sums>()); }
std::int64_t read_avx512vnni(const void* data, std::size_t bytes) { return read<Isa>(data, bytes); }

}  // namespace aerogel
