// Bound by the two FMA units: 28 FMA, 2 weight loads and 14 broadcasts per k, 14 cycles. Not yet measured on a CPU.
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
constexpr std::int64_t kAheadFloats = 16384 / 4;  // where streams from DRAM are prefetched

// What one register tile reads and writes.
struct Tile {
  const float* w;     // [k][kPanel]
  const float* x;     // chunks of [T][kChunk]
  std::int64_t k;
  const float* bias;  // [kPanel lanes], or null: nothing to add
  bool accumulate;    // y already holds the sum of earlier chunks
  float* y;
  std::int64_t ldy;
  std::int64_t rows;  // lanes that exist
};

inline __mmask16 lane_mask(std::int64_t lanes) {
  return static_cast<__mmask16>(lanes >= 16 ? 0xffff : lanes <= 0 ? 0 : (1 << lanes) - 1);
}

// T tokens times one panel. Few tokens keep several sums a lane (kPhases), or the latency of the FMA would bound them.
// Stream: the weights come from memory and are used once, so they are prefetched far ahead.
template <int T, bool Stream>
__attribute__((noinline)) void multiply(const Tile& tile) {
  constexpr int kPhases = T == 1 ? 4 : T <= 3 ? 2 : 1;
  __m512 sum[kPhases][T][2];
  UNROLL
  for (int p = 0; p < kPhases; ++p)
    UNROLL
    for (int t = 0; t < T; ++t) sum[p][t][0] = sum[p][t][1] = _mm512_setzero_ps();
  if (!Stream)
    UNROLL
    for (int t = 0; t < T; ++t) {
      _mm_prefetch(reinterpret_cast<const char*>(tile.y + t * tile.ldy), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(tile.y + t * tile.ldy + 16), _MM_HINT_T0);
    }

  const float* w = tile.w;
  const float* x_chunk = tile.x;
  for (std::int64_t left = tile.k; left > 0; left -= kChunk, x_chunk += T * kChunk) {
    const float* x = x_chunk;
    const float* const end = x_chunk + (left < kChunk ? left : kChunk);
    for (; end - x >= kPhases; x += kPhases) {
      UNROLL
      for (int p = 0; p < kPhases; ++p, w += kPanel) {
        if (Stream) {
          _mm_prefetch(reinterpret_cast<const char*>(w + kAheadFloats), _MM_HINT_T0);
          _mm_prefetch(reinterpret_cast<const char*>(w + kAheadFloats + 16), _MM_HINT_T0);
        }
        __m512 w0 = _mm512_load_ps(w), w1 = _mm512_load_ps(w + 16);
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
      for (; x < end; ++x, w += kPanel) {
        const __m512 w0 = _mm512_load_ps(w), w1 = _mm512_load_ps(w + 16);
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

template <bool Stream>
void multiply_tokens(std::int64_t tokens, const Tile& tile) {
  switch (tokens) {
    case 1: return multiply<1, Stream>(tile);
    case 2: return multiply<2, Stream>(tile);
    case 3: return multiply<3, Stream>(tile);
    case 4: return multiply<4, Stream>(tile);
    case 5: return multiply<5, Stream>(tile);
    case 6: return multiply<6, Stream>(tile);
    case 7: return multiply<7, Stream>(tile);
    case 8: return multiply<8, Stream>(tile);
    case 9: return multiply<9, Stream>(tile);
    case 10: return multiply<10, Stream>(tile);
    case 11: return multiply<11, Stream>(tile);
    case 12: return multiply<12, Stream>(tile);
    case 13: return multiply<13, Stream>(tile);
    default: return multiply<14, Stream>(tile);
  }
}

// columns [k, k + count) of `tokens` tokens, kChunk apart.
void copy_chunk(const float* x, std::int64_t ldx, std::int64_t tokens, std::int64_t count, float* out) {
  for (std::int64_t t = 0; t < tokens; ++t, x += ldx, out += kChunk) {
    for (std::int64_t k = 0; k < count; k += 16)
      _mm512_store_ps(out + k, _mm512_maskz_loadu_ps(lane_mask(count - k), x + k));
  }
}

// At most kTile tokens: each panel is read once, from end to end.
void run_few(const LinearTask& task, const dense_f32::View& view) {
  float* scratch = static_cast<float*>(task.scratch);
  const float* x = static_cast<const float*>(task.x);
  for (std::int64_t k = 0; k < view.k; k += kChunk)
    copy_chunk(x + k, task.ldx, task.m, view.k - k < kChunk ? view.k - k : kChunk, scratch + k * task.m);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * kPanel;
    multiply_tokens<true>(task.m, {view.panels + first * view.k, scratch, view.k, task.bias ? task.bias + first : nullptr, false,
                                   task.y + first, task.ldy, view.n - first < kPanel ? view.n - first : kPanel});
  }
}

// A block of tokens: a chunk of a panel stays in L1 while all its tiles pass, their x in L2.
void run_block(const LinearTask& task, const dense_f32::View& view, std::int64_t token, std::int64_t tokens) {
  float* scratch = static_cast<float*>(task.scratch);
  // Tiles and chunks of nearly equal size: a last tile of one token would cost as much as one of four.
  const std::int64_t tiles = (tokens + kTile - 1) / kTile;
  const std::int64_t chunks = (view.k + kChunk - 1) / kChunk;
  const std::int64_t width = ((view.k + chunks - 1) / chunks + 15) / 16 * 16;
  for (std::int64_t k = 0; k < view.k; k += width) {
    const std::int64_t count = view.k - k < width ? view.k - k : width;
    copy_chunk(static_cast<const float*>(task.x) + token * task.ldx + k, task.ldx, tokens, count, scratch);
    for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
      const std::int64_t first = unit * kPanel;
      const float* w = view.panels + (first * view.k + k * kPanel);
      Tile tile{w, scratch, count, task.bias ? task.bias + first : nullptr, k != 0, task.y + token * task.ldy + first, task.ldy,
                view.n - first < kPanel ? view.n - first : kPanel};
      // Each tile fetches its share of the next panel's chunk.
      const float* next = w + view.k * kPanel;
      std::int64_t fetched = 0;
      for (std::int64_t i = 0; i < tiles; ++i) {
        if (unit + 1 < task.unit_end)
          for (const std::int64_t until = count * (i + 1) / tiles; fetched < until; ++fetched)
            for (int line = 0; line < 2; ++line)
              _mm_prefetch(reinterpret_cast<const char*>(next + fetched * kPanel + 16 * line), _MM_HINT_T1);
        const std::int64_t size = tokens * (i + 1) / tiles - tokens * i / tiles;
        multiply_tokens<false>(size, tile);
        tile.x += size * kChunk;
        tile.y += size * task.ldy;
      }
    }
  }
}

}  // namespace

void run_dense_f32_avx512vnni(const LinearTask& task) {
  const auto& view = *static_cast<const dense_f32::View*>(task.weight);
  if (task.m <= kTile) return run_few(task, view);
  const std::int64_t blocks = (task.m + kBlock - 1) / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t begin = task.m * b / blocks;
    run_block(task, view, begin, task.m * (b + 1) / blocks - begin);
  }
}

}  // namespace aerogel
