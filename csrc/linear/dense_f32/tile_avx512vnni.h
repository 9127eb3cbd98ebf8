// The register tile of the AVX-512 kernels whose weights become panels of floats: dense_f32, dense_bf16, masked_bf16. Everything has
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

constexpr int kPanel = dense_f32::kAvx512.panel;
constexpr int kTile = dense_f32::kAvx512.tile;
constexpr int kChunk = dense_f32::kAvx512.chunk;
constexpr int kBlock = dense_f32::kAvx512.block;
constexpr std::int64_t kAheadBytes = 16384;  // where streams from DRAM are prefetched

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// A panel of floats, [k][kPanel].
struct FloatRows {
  const float* w;

  template <bool Stream>
  void next(__m512& w0, __m512& w1) {
    if (Stream) {
      prefetch(reinterpret_cast<const char*>(w) + kAheadBytes);
      prefetch(reinterpret_cast<const char*>(w) + kAheadBytes + 64);
    }
    w0 = _mm512_load_ps(w);
    w1 = _mm512_load_ps(w + 16);
    w += kPanel;
  }
};

inline __mmask16 lane_mask(std::int64_t lanes) {
  return static_cast<__mmask16>(lanes >= 16 ? 0xffff : lanes <= 0 ? 0 : (1 << lanes) - 1);
}

// T tokens times one panel. Few tokens keep several sums a lane (kPhases), or the latency of the FMA would bound them.
// Stream: the weights come from memory and are used once, so they are prefetched far ahead.
template <int T, bool Stream, class Rows>
__attribute__((noinline)) void multiply(const dense_f32::Tile& tile, Rows rows) {
  constexpr int kPhases = T == 1 ? 4 : T <= 3 ? 2 : 1;
  __m512 sum[kPhases][T][2];
  UNROLL
  for (int p = 0; p < kPhases; ++p)
    UNROLL
    for (int t = 0; t < T; ++t) sum[p][t][0] = sum[p][t][1] = _mm512_setzero_ps();
  if (!Stream)
    UNROLL
    for (int t = 0; t < T; ++t) {
      prefetch(tile.y + t * tile.ldy);
      prefetch(tile.y + t * tile.ldy + 16);
    }

  const float* x_chunk = tile.x;
  for (std::int64_t left = tile.k; left > 0; left -= kChunk, x_chunk += T * kChunk) {
    const float* x = x_chunk;
    const float* const end = x_chunk + (left < kChunk ? left : kChunk);
    for (; end - x >= kPhases; x += kPhases) {
      UNROLL
      for (int p = 0; p < kPhases; ++p) {
        __m512 w0, w1;
        rows.template next<Stream>(w0, w1);
        // Keeps these in registers: a compiler would rather read w1 again for every token and x for either half.
        __asm__("" : "+v"(w0), "+v"(w1));
        UNROLL
        for (int t = 0; t < T; ++t) {
          __m512 value = _mm512_set1_ps(x[p + t * kChunk]);
          __asm__("" : "+v"(value));
          sum[p][t][0] = _mm512_fmadd_ps(value, w0, sum[p][t][0]);
          sum[p][t][1] = _mm512_fmadd_ps(value, w1, sum[p][t][1]);
        }
      }
    }
    if (kPhases > 1)
      for (; x < end; ++x) {
        __m512 w0, w1;
        rows.template next<false>(w0, w1);
        UNROLL
        for (int t = 0; t < T; ++t) {
          const __m512 value = _mm512_set1_ps(x[t * kChunk]);
          sum[0][t][0] = _mm512_fmadd_ps(value, w0, sum[0][t][0]);
          sum[0][t][1] = _mm512_fmadd_ps(value, w1, sum[0][t][1]);
        }
      }
  }
  UNROLL
  for (int p = 1; p < kPhases; ++p)
    UNROLL
    for (int t = 0; t < T; ++t)
      UNROLL
      for (int half = 0; half < 2; ++half) sum[0][t][half] = _mm512_add_ps(sum[0][t][half], sum[p][t][half]);

  UNROLL
  for (int half = 0; half < 2; ++half) {
    const __mmask16 mask = lane_mask(tile.rows - 16 * half);
    const __m512 bias = tile.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, tile.bias + 16 * half);
    UNROLL
    for (int t = 0; t < T; ++t) {
      float* y = tile.y + t * tile.ldy + 16 * half;
      _mm512_mask_storeu_ps(y, mask, _mm512_add_ps(sum[0][t][half], tile.accumulate ? _mm512_maskz_loadu_ps(mask, y) : bias));
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
    case 6: return multiply<6, Stream>(tile, rows);
    case 7: return multiply<7, Stream>(tile, rows);
    case 8: return multiply<8, Stream>(tile, rows);
    case 9: return multiply<9, Stream>(tile, rows);
    case 10: return multiply<10, Stream>(tile, rows);
    case 11: return multiply<11, Stream>(tile, rows);
    case 12: return multiply<12, Stream>(tile, rows);
    case 13: return multiply<13, Stream>(tile, rows);
    default: return multiply<14, Stream>(tile, rows);
  }
}

// columns [k, k + count) of `tokens` tokens, kChunk apart.
void copy_chunk(const float* x, std::int64_t ldx, std::int64_t tokens, std::int64_t count, float* out) {
  for (std::int64_t t = 0; t < tokens; ++t, x += ldx, out += kChunk) {
    for (std::int64_t k = 0; k < count; k += 16)
      _mm512_store_ps(out + k, _mm512_maskz_loadu_ps(lane_mask(count - k), x + k));
  }
}

#include "linear/dense_f32/panels.h"

}  // namespace
}  // namespace aerogel
