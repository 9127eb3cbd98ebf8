// Eight int32 sums in a register, one a row: turning 8 x 8 of them round, and writing them as y; and 16 x 16 bytes turned round, to
// begin with. For the int8 kernels that keep rows or tokens on the lanes of AVX2 registers. Internal linkage: each kernel file compiles its own copy.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "linear/linear.h"

namespace aerogel {
namespace {

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// Four bytes, eight times.
inline __m256i broadcast4(const void* p) { return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p))); }

// Byte c of register r becomes byte r of register c, in both halves by itself: four rounds of unpacks, each joining register i with
// register i + 8.
inline __attribute__((always_inline)) void transpose_bytes(__m256i (&a)[16]) {
  __m256i b[16];
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = _mm256_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm256_unpackhi_epi8(a[i], a[i + 8]);
    }
    for (int i = 0; i < 8; ++i) {
      a[2 * i] = _mm256_unpacklo_epi8(b[i], b[i + 8]);
      a[2 * i + 1] = _mm256_unpackhi_epi8(b[i], b[i + 8]);
    }
  }
}

// Writes y[t][n .. n + 8) = float(sum) * (x_scale[t] * scale) + bias: fewer behind the last row.
struct Writer {
  __m256 scale, bias;
  __m256i mask;
  bool whole;
  const float* x_scale;
  float* y;
  std::int64_t ldy;

  // v: the format's View, with n and scale [N rounded up to 8].
  template <class View>
  Writer(const LinearTask& task, const View& v, std::int64_t n)
      : scale(_mm256_loadu_ps(v.scale + n)), whole(v.n - n >= 8), x_scale(task.x_scale), y(task.y + n), ldy(task.ldy) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(whole ? 8 : static_cast<int>(v.n - n)), lane);
    // Adding -0 changes no bit of any number: "no bias" needs no branch.
    bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, mask) : _mm256_set1_ps(-0.0f);
  }

  void operator()(std::int64_t t, __m256i sum) const {
    const __m256 factor = _mm256_mul_ps(_mm256_broadcast_ss(x_scale + t), scale);
    const __m256 out = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor), bias);
    if (whole)
      _mm256_storeu_ps(y + t * ldy, out);
    else
      _mm256_maskstore_ps(y + t * ldy, mask, out);
  }
};

// out[i] = element i of each of the 8 registers row(0) .. row(7).
template <class Row>
inline __attribute__((always_inline)) void transpose8(Row row, __m256i (&out)[8]) {
  __m256i s[8];
#pragma GCC unroll 2
  for (int j = 0; j < 8; j += 4) {
    const __m256i r0 = row(j), r1 = row(j + 1), r2 = row(j + 2), r3 = row(j + 3);
    const __m256i a = _mm256_unpacklo_epi32(r0, r1), b = _mm256_unpackhi_epi32(r0, r1);
    const __m256i c = _mm256_unpacklo_epi32(r2, r3), d = _mm256_unpackhi_epi32(r2, r3);
    s[j] = _mm256_unpacklo_epi64(a, c);
    s[j + 1] = _mm256_unpackhi_epi64(a, c);
    s[j + 2] = _mm256_unpacklo_epi64(b, d);
    s[j + 3] = _mm256_unpackhi_epi64(b, d);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    out[j] = _mm256_permute2x128_si256(s[j], s[j + 4], 0x20);
    out[j + 4] = _mm256_permute2x128_si256(s[j], s[j + 4], 0x31);
  }
}

// The same for registers at from, from + stride, ..
inline __attribute__((always_inline)) void transpose8(const std::int32_t* from, std::int64_t stride, __m256i (&out)[8]) {
  transpose8([=](int i) { return load(from + i * stride); }, out);
}

}  // namespace
}  // namespace aerogel
