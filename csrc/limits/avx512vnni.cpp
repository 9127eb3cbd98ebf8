// Bare multiply-add loops and reads for AVX-512 VNNI. Written as volatile assembly: equal sums over constants would be merged into one.
#include <immintrin.h>

#include "limits/limits.h"

namespace aerogel {
namespace {

inline __attribute__((always_inline)) void dot(__m512i& sum, __m512i a, __m512i b) {
  __asm__ volatile("vpdpbusd %[b], %[a], %[s]" : [s] "+v"(sum) : [a] "v"(a), [b] "v"(b));
}

inline __attribute__((always_inline)) void fma(__m512& sum, __m512 a, __m512 b) {
  __asm__ volatile("vfmadd231ps %[b], %[a], %[s]" : [s] "+v"(sum) : [a] "v"(a), [b] "v"(b));
}

}  // namespace

// Bound by vpdpbusd: 64 multiply-adds each, two a cycle with a latency of 4 or 5, so ten independent sums.
std::int64_t peak_int8_avx512vnni(std::int64_t rounds) {
  const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0;
  for (std::int64_t i = 0; i < rounds; ++i) {
    dot(s0, a, b);
    dot(s1, a, b);
    dot(s2, a, b);
    dot(s3, a, b);
    dot(s4, a, b);
    dot(s5, a, b);
    dot(s6, a, b);
    dot(s7, a, b);
    dot(s8, a, b);
    dot(s9, a, b);
  }
  s0 = _mm512_add_epi32(_mm512_add_epi32(_mm512_add_epi32(s0, s1), _mm512_add_epi32(s2, s3)),
                        _mm512_add_epi32(_mm512_add_epi32(s4, s5), _mm512_add_epi32(_mm512_add_epi32(s6, s7), _mm512_add_epi32(s8, s9))));
  alignas(64) std::int32_t sums[16];
  _mm512_store_si512(sums, s0);
  return static_cast<std::uint32_t>(sums[0]) == static_cast<std::uint32_t>(40 * rounds) ? 10 * 64 * rounds : 0;
}

// Bound by vfmadd231ps: two a cycle where the CPU has two such units, latency 4.
std::int64_t peak_fp32_avx512vnni(std::int64_t rounds) {
  const __m512 a = _mm512_setzero_ps(), b = _mm512_set1_ps(1.0f);
  __m512 s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a;
  for (std::int64_t i = 0; i < rounds; ++i) {
    fma(s0, a, b);
    fma(s1, a, b);
    fma(s2, a, b);
    fma(s3, a, b);
    fma(s4, a, b);
    fma(s5, a, b);
    fma(s6, a, b);
    fma(s7, a, b);
    fma(s8, a, b);
    fma(s9, a, b);
  }
  s0 = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)),
                     _mm512_add_ps(_mm512_add_ps(s4, s5), _mm512_add_ps(_mm512_add_ps(s6, s7), _mm512_add_ps(s8, s9))));
  return _mm512_cvtss_f32(s0) == 0.0f ? 10 * 16 * rounds : 0;
}

std::int64_t read_avx512vnni(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  const char* const end = at + bytes;
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
  for (; at != end; at += 256) {
    _mm_prefetch(at + 4096, _MM_HINT_T0);
    _mm_prefetch(at + 4160, _MM_HINT_T0);
    _mm_prefetch(at + 4224, _MM_HINT_T0);
    _mm_prefetch(at + 4288, _MM_HINT_T0);
    s0 = _mm512_or_si512(s0, _mm512_load_si512(at));
    s1 = _mm512_or_si512(s1, _mm512_load_si512(at + 64));
    s2 = _mm512_or_si512(s2, _mm512_load_si512(at + 128));
    s3 = _mm512_or_si512(s3, _mm512_load_si512(at + 192));
  }
  s0 = _mm512_or_si512(_mm512_or_si512(s0, s1), _mm512_or_si512(s2, s3));
  return _mm512_test_epi32_mask(s0, s0) == 0;
}

}  // namespace aerogel
