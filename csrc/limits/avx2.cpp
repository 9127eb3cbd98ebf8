// Bare multiply-add loops and reads for AVX2. Written as volatile assembly: equal sums over constants would be merged into one.
#include <immintrin.h>

#include "limits/limits.h"

namespace aerogel {
namespace {

// int8 weights meet int8 activations as int16 pairs: vpmaddwd, vpaddd. 16 multiply-adds.
inline __attribute__((always_inline)) void madd(__m256i& sum, __m256i a, __m256i b) {
  __m256i product;
  __asm__ volatile("vpmaddwd %[b], %[a], %[p]\n\tvpaddd %[p], %[s], %[s]" : [s] "+x"(sum), [p] "=&x"(product) : [a] "x"(a), [b] "x"(b));
}

inline __attribute__((always_inline)) void fma(__m256& sum, __m256 a, __m256 b) {
  __asm__ volatile("vfmadd231ps %[b], %[a], %[s]" : [s] "+x"(sum) : [a] "x"(a), [b] "x"(b));
}

}  // namespace

// Bound by vpmaddwd: two a cycle on Zen 3, with eight independent sums.
std::int64_t peak_int8_avx2(std::int64_t rounds) {
  const __m256i a = _mm256_set1_epi16(1), b = _mm256_set1_epi16(1);
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
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
  s0 = _mm256_add_epi32(_mm256_add_epi32(_mm256_add_epi32(s0, s1), _mm256_add_epi32(s2, s3)),
                        _mm256_add_epi32(_mm256_add_epi32(s4, s5), _mm256_add_epi32(s6, s7)));
  // Each lane counted two a vpmaddwd: the result of the loop is its own proof, modulo 2^32 on very long runs.
  return static_cast<std::int64_t>(static_cast<std::uint32_t>(_mm256_extract_epi32(s0, 0))) == static_cast<std::uint32_t>(16 * rounds)
             ? 8 * 16 * rounds
             : 0;
}

// Bound by vfmadd231ps: two a cycle with a latency of 4, so at least eight independent sums.
std::int64_t peak_fp32_avx2(std::int64_t rounds) {
  const __m256 a = _mm256_setzero_ps(), b = _mm256_set1_ps(1.0f);
  __m256 s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a;
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
  s0 = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)),
                     _mm256_add_ps(_mm256_add_ps(s4, s5), _mm256_add_ps(_mm256_add_ps(s6, s7), _mm256_add_ps(s8, s9))));
  return _mm256_cvtss_f32(s0) == 0.0f ? 10 * 8 * rounds : 0;
}

// One pass; prefetching 4 KB ahead is what the kernels that stream do too.
std::int64_t read_avx2(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  const char* const end = at + bytes;
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  for (; at != end; at += 256) {
    const __m256i* p = reinterpret_cast<const __m256i*>(at);
    _mm_prefetch(at + 4096, _MM_HINT_T0);
    _mm_prefetch(at + 4160, _MM_HINT_T0);
    _mm_prefetch(at + 4224, _MM_HINT_T0);
    _mm_prefetch(at + 4288, _MM_HINT_T0);
    s0 = _mm256_or_si256(s0, _mm256_load_si256(p));
    s1 = _mm256_or_si256(s1, _mm256_load_si256(p + 1));
    s2 = _mm256_or_si256(s2, _mm256_load_si256(p + 2));
    s3 = _mm256_or_si256(s3, _mm256_load_si256(p + 3));
    s0 = _mm256_or_si256(s0, _mm256_load_si256(p + 4));
    s1 = _mm256_or_si256(s1, _mm256_load_si256(p + 5));
    s2 = _mm256_or_si256(s2, _mm256_load_si256(p + 6));
    s3 = _mm256_or_si256(s3, _mm256_load_si256(p + 7));
  }
  s0 = _mm256_or_si256(_mm256_or_si256(s0, s1), _mm256_or_si256(s2, s3));
  return _mm256_testz_si256(s0, s0);
}

}  // namespace aerogel
