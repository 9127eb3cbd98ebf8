// The register tile of the AVX2 kernels whose weights become panels of floats: dense_f32, dense_bf16, masked_bf16. Everything has
// internal linkage: each kernel file compiles its own copy. panels.h says what a Source and its rows are.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "linear/dense_f32/layout.h"
#include "linear/linear.h"

// Loops over a register tile must be unrolled, or the tile lives in memory.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace aerogel {
namespace {

constexpr int kPanel = dense_f32::kAvx2.panel;
constexpr int kTile = dense_f32::kAvx2.tile;
constexpr int kChunk = dense_f32::kAvx2.chunk;
constexpr int kBlock = dense_f32::kAvx2.block;
constexpr std::int64_t kAheadBytes = 2048;  // prefetch distance of streams; 0.5 to 32 KB differed by less than the noise

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// A panel of floats, [k][kPanel].
struct FloatRows {
  const float* w;

  template <bool Stream>
  void next(__m256& w0, __m256& w1) {
    if (Stream) prefetch(reinterpret_cast<const char*>(w) + kAheadBytes);
    w0 = _mm256_load_ps(w);
    w1 = _mm256_load_ps(w + 8);
    w += kPanel;
  }
};

inline __m256i lane_mask(std::int64_t rows) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(rows)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// T tokens times one panel. Few tokens keep several sums a lane (kPhases), or the latency of the FMA would bound them.
// Stream: the weights come from memory and are used once, so they are prefetched far ahead.
template <int T, bool Stream, class Rows>
__attribute__((noinline)) void multiply(const dense_f32::Tile& tile, Rows rows) {
  constexpr int kPhases = T == 1 ? 4 : T <= 3 ? 2 : 1;
  __m256 sum[kPhases][T][2];
  UNROLL
  for (int p = 0; p < kPhases; ++p)
    UNROLL
    for (int t = 0; t < T; ++t) sum[p][t][0] = sum[p][t][1] = _mm256_setzero_ps();
  if (!Stream)
    UNROLL
    for (int t = 0; t < T; ++t) prefetch(tile.y + t * tile.ldy);

  const float* x_chunk = tile.x;
  for (std::int64_t left = tile.k; left > 0; left -= kChunk, x_chunk += T * kChunk) {
    const float* x = x_chunk;
    const float* const end = x_chunk + (left < kChunk ? left : kChunk);
    for (; end - x >= kPhases; x += kPhases) {
      UNROLL
      for (int p = 0; p < kPhases; ++p) {
        __m256 w0, w1;
        rows.template next<Stream>(w0, w1);
        // Keeps both in registers: GCC would rather read w1 again for every token, a load too many per cycle.
        __asm__("" : "+x"(w0), "+x"(w1));
        UNROLL
        for (int t = 0; t < T; ++t) {
          const __m256 value = _mm256_broadcast_ss(x + p + t * kChunk);
          sum[p][t][0] = _mm256_fmadd_ps(value, w0, sum[p][t][0]);
          sum[p][t][1] = _mm256_fmadd_ps(value, w1, sum[p][t][1]);
        }
      }
    }
    if (kPhases > 1)
      for (; x < end; ++x) {
        __m256 w0, w1;
        rows.template next<false>(w0, w1);
        UNROLL
        for (int t = 0; t < T; ++t) {
          const __m256 value = _mm256_broadcast_ss(x + t * kChunk);
          sum[0][t][0] = _mm256_fmadd_ps(value, w0, sum[0][t][0]);
          sum[0][t][1] = _mm256_fmadd_ps(value, w1, sum[0][t][1]);
        }
      }
  }
  UNROLL
  for (int p = 1; p < kPhases; ++p)
    UNROLL
    for (int t = 0; t < T; ++t)
      UNROLL
      for (int half = 0; half < 2; ++half) sum[0][t][half] = _mm256_add_ps(sum[0][t][half], sum[p][t][half]);

  if (tile.rows == kPanel) {
    UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m256 bias = tile.bias == nullptr ? _mm256_setzero_ps() : _mm256_loadu_ps(tile.bias + 8 * half);
      UNROLL
      for (int t = 0; t < T; ++t) {
        float* y = tile.y + t * tile.ldy + 8 * half;
        _mm256_storeu_ps(y, _mm256_add_ps(sum[0][t][half], tile.accumulate ? _mm256_loadu_ps(y) : bias));
      }
    }
    return;
  }
  UNROLL
  for (int half = 0; half < 2; ++half) {
    const __m256i mask = lane_mask(tile.rows - 8 * half);
    const __m256 bias = tile.bias == nullptr ? _mm256_setzero_ps() : _mm256_maskload_ps(tile.bias + 8 * half, mask);
    UNROLL
    for (int t = 0; t < T; ++t) {
      float* y = tile.y + t * tile.ldy + 8 * half;
      _mm256_maskstore_ps(y, mask, _mm256_add_ps(sum[0][t][half], tile.accumulate ? _mm256_maskload_ps(y, mask) : bias));
    }
  }
}

template <bool Stream, class Rows>
void multiply_tokens(std::int64_t tokens, const dense_f32::Tile& tile, Rows rows) {
  switch (tokens) {
    case 1: return multiply<1, Stream>(tile, rows);
    case 2: return multiply<2, Stream>(tile, rows);
    case 3: return multiply<3, Stream>(tile, rows);
    case 4: return multiply<4, Stream>(tile, rows);
    case 5: return multiply<5, Stream>(tile, rows);
    default: return multiply<6, Stream>(tile, rows);
  }
}

// columns [k, k + count) of `tokens` tokens, kChunk apart.
void copy_chunk(const float* x, std::int64_t ldx, std::int64_t tokens, std::int64_t count, float* out) {
  for (std::int64_t t = 0; t < tokens; ++t, x += ldx, out += kChunk) {
    std::int64_t k = 0;
    for (; k + 8 <= count; k += 8) _mm256_store_ps(out + k, _mm256_loadu_ps(x + k));
    for (; k < count; ++k) out[k] = x[k];
  }
}

#include "linear/dense_f32/panels.h"

}  // namespace
}  // namespace aerogel
