// grouped_q8 on AVX2: the tile of dense_q8, whose int32 sums become floats at the end of a group, times its scales.
//
// Bound: that of dense_q8, 24 arithmetic instructions for 2 columns of 6 tokens x 16 rows, and 36 more at the end of a group (a
// conversion, a product and an addition for each of 12 registers), 9 % of a group of 32 columns and 2 % of 128.
//
// Measured on a busy 2-core Zen 3, one thread, groups of 64, times as fast as dense_q8: 768 x 768 from cache .92 / .90 / .87 at 1 / 4 /
// 16 tokens; from DRAM (2048 x 2048) .79 at one token and .81 at 4, with 6 % more bytes.
#include <immintrin.h>

#include "linear/dense_q8/tile_avx2.h"
#include "linear/grouped_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

#define UNROLL _Pragma("GCC unroll 16")

// int8, widened when loaded; with Keep also stored as int16.
template <bool Keep>
struct Codes {
  const std::int8_t* codes;
  std::int16_t* words;

  void enter() { _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes), _MM_HINT_T0); }
  template <int I>
  Pair pair() {
    const Pair read = {_mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes))),
                       _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + 16)))};
    codes += 32;
    if (Keep) {
      store_pair(words, read);
      words += 32;
    }
    return read;
  }
};

// sums[T, 16] (+)= over the groups of a chunk, scales[group, 16] * float(x[T, group] . w[16, group]^T).
template <int T, class Weights>
void group_tile(Weights& weights, const std::int16_t* x, std::int64_t columns, std::int64_t group, const float* scales, float* sums,
                bool accumulate) {
  Weights w = weights;  // in registers
  if (!accumulate)
    for (int t = 0; t < T; ++t) {
      _mm256_store_ps(sums + t * kRows, _mm256_setzero_ps());
      _mm256_store_ps(sums + t * kRows + 8, _mm256_setzero_ps());
    }
  for (std::int64_t begin = 0; begin < columns; begin += group, scales += kRows) {
    const std::int64_t end = columns - begin < group ? columns : begin + group;
    __m256i low[T], high[T];
    UNROLL for (int t = 0; t < T; ++t) low[t] = high[t] = _mm256_setzero_si256();
    for (std::int64_t k = begin; k < end; k += 4) {
      w.enter();
      const Pair first = w.template pair<0>();
      UNROLL for (int t = 0; t < T; ++t) multiply_add(low[t], high[t], first, reinterpret_cast<const Two*>(x + t * kStride + k));
      const Pair second = w.template pair<1>();
      UNROLL for (int t = 0; t < T; ++t)
        multiply_add(low[t], high[t], second, reinterpret_cast<const Two*>(x + t * kStride + k + 2));
    }
    const __m256 scale_low = _mm256_load_ps(scales), scale_high = _mm256_load_ps(scales + 8);
    UNROLL for (int t = 0; t < T; ++t) {
      float* const to = sums + t * kRows;
      _mm256_store_ps(to, _mm256_add_ps(_mm256_load_ps(to), _mm256_mul_ps(scale_low, _mm256_cvtepi32_ps(low[t]))));
      _mm256_store_ps(to + 8, _mm256_add_ps(_mm256_load_ps(to + 8), _mm256_mul_ps(scale_high, _mm256_cvtepi32_ps(high[t]))));
    }
  }
  weights = w;
}

template <class Weights>
void group_tile_of(std::int64_t tokens, Weights& weights, const std::int16_t* x, std::int64_t columns, std::int64_t group,
                   const float* scales, float* sums, bool accumulate) {
  switch (tokens) {
    case 1: return group_tile<1>(weights, x, columns, group, scales, sums, accumulate);
    case 2: return group_tile<2>(weights, x, columns, group, scales, sums, accumulate);
    case 3: return group_tile<3>(weights, x, columns, group, scales, sums, accumulate);
    case 4: return group_tile<4>(weights, x, columns, group, scales, sums, accumulate);
    case 5: return group_tile<5>(weights, x, columns, group, scales, sums, accumulate);
    default: return group_tile<6>(weights, x, columns, group, scales, sums, accumulate);
  }
}

// Sums of one panel to y.
void group_finish(const LinearTask& task, std::int64_t outputs, std::int64_t panel, std::int64_t first_token, std::int64_t tokens,
                  const float* sums) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t n = panel * kRows + half * 8;
    if (n >= outputs) return;
    const std::int64_t here = outputs - n < 8 ? outputs - n : 8;
    const __m256i rows = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(here)), lane);
    const __m256 bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, rows) : _mm256_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      __m256 value = _mm256_mul_ps(_mm256_load_ps(sums + t * kRows + half * 8), _mm256_set1_ps(task.x_scale[first_token + t]));
      if (task.bias != nullptr) value = _mm256_add_ps(value, bias);
      _mm256_maskstore_ps(task.y + (first_token + t) * task.ldy + n, rows, value);
    }
  }
}

}  // namespace

void run_grouped_q8_avx2(const LinearTask& task) {
  const GroupedQ8View& w = *static_cast<const GroupedQ8View*>(task.weight);
  const DenseQ8Tiling& tiling = kGroupedQ8TilingAvx2;
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunk = grouped_q8_chunk(tiling, w.group), chunks = grouped_q8_chunks(tiling, w.k_padded, w.group);
  const std::int64_t most = dense_q8_block(tiling, w.k_padded);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;

  auto* const wide_x = static_cast<std::int16_t*>(task.scratch);
  std::int16_t* const words = wide_x + chunks * held * kStride;
  auto* const sums = reinterpret_cast<float*>(words + tiling.panel_bytes / 2);

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
      widen_x(x + first * task.ldx + k, task.ldx, tokens, columns, wide_x + c * held * kStride);
    }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const std::int8_t* codes = w.codes + panel * kRows * w.k_padded;
      const float* scales = w.scale + panel * w.groups * kRows;
      for (std::int64_t c = 0; c < chunks; ++c, scales += chunk / w.group * kRows) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        const std::int16_t* chunk_x = wide_x + c * held * kStride;
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          if (tiles == 1) {
            Codes<false> read{codes, nullptr};
            group_tile_of(next, read, chunk_x, columns, w.group, scales, sums, c != 0);
          } else if (i == 0) {
            Codes<true> read{codes, words};
            group_tile_of(next, read, chunk_x, columns, w.group, scales, sums, c != 0);
          } else {
            Words ready{words};
            group_tile_of(next - t, ready, chunk_x + t * kStride, columns, w.group, scales, sums + t * kRows, c != 0);
          }
          t = next;
        }
        codes += columns * kRows;
      }
      group_finish(task, w.n, panel, first, tokens, sums);
    }
  }
}

#undef UNROLL

}  // namespace aerogel
