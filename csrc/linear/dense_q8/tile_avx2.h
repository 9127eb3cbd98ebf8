// The register tile of dense int8 weights on AVX2 and the loops around it, for the avx2 kernels that have such weights or make
// them from a packed form. All in an anonymous namespace: no copy can be shared with code compiled for another instruction
// set. What bounds it: avx2.cpp.
#pragma once

#include <immintrin.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTile = kDenseQ8TilingAvx2.tile;
constexpr std::int64_t kStride = kDenseQ8TilingAvx2.stride;
constexpr std::int64_t kRows = kDenseQ8Avx2.rows;

// DRAM streams: far enough ahead to cover the latency at full speed; nearer ones (1-2 KB) do nothing.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")
// A function left out of line would too.
#define INLINE inline __attribute__((always_inline))

// Two columns k, k+1 of 16 rows.
struct Pair {
  __m256i low, high;
};

inline void store_pair(std::int16_t* words, const Pair& pair) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), pair.low);
  _mm256_store_si256(reinterpret_cast<__m256i*>(words + 16), pair.high);
}

// Where a tile takes a panel's chunk from, in order: four columns are entered, then read as two pairs. kShift: by how many
// bits the weights are too large.

// int16, as an earlier tile stored them.
struct Words {
  static constexpr int kShift = 0;
  const std::int16_t* words;

  void enter() {}
  template <int I>
  INLINE Pair pair() {
    const Pair read = {_mm256_load_si256(reinterpret_cast<const __m256i*>(words)),
                       _mm256_load_si256(reinterpret_cast<const __m256i*>(words + 16))};
    words += 32;
    return read;
  }
};

// One token's x[k], x[k+1].
struct Two {
  std::int16_t k[2];
};

// sums of 16 rows += w[16, 2] . x[2]. As intrinsics, GCC 12 computes the products of all tokens first and spills them.
INLINE void multiply_add(__m256i& low, __m256i& high, const Pair& w, const Two* x) {
  __m256i a, b;
  __asm__(
      "vpbroadcastd %[x], %[b]\n\t"
      "vpmaddwd %[b], %[w0], %[a]\n\t"
      "vpmaddwd %[b], %[w1], %[b]\n\t"
      "vpaddd %[a], %[low], %[low]\n\t"
      "vpaddd %[b], %[high], %[high]"
      : [low] "+x"(low), [high] "+x"(high), [a] "=&x"(a), [b] "=&x"(b)
      : [w0] "x"(w.low), [w1] "x"(w.high), [x] "m"(*x));
}

// How the sums of a panel become y.
struct Finish {
  __m256 scale[2], bias[2];
  __m256i rows[2];
  bool whole;
  const float* x_scale;  // of the block's tokens
  float* y;
  std::int64_t ldy;

  Finish(const LinearTask& task, std::int64_t outputs, const float* scales, std::int64_t panel, std::int64_t first_token)
      : whole((panel + 1) * kRows <= outputs), x_scale(task.x_scale + first_token), y(task.y + first_token * task.ldy + panel * kRows), ldy(task.ldy) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (std::int64_t half = 0; half < 2; ++half) {
      const std::int64_t n = panel * kRows + half * 8;
      rows[half] = _mm256_cmpgt_epi32(_mm256_set1_epi32(whole ? 8 : static_cast<int>(outputs - n)), lane);
      scale[half] = _mm256_load_ps(scales + n);
      // Adding -0 changes no bit of any number: "no bias" needs no branch.
      bias[half] = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, rows[half]) : _mm256_set1_ps(-0.0f);
    }
  }

  INLINE void operator()(std::int64_t token, __m256i low, __m256i high) const {
    const __m256 factor = _mm256_broadcast_ss(x_scale + token);
    float* const to = y + token * ldy;
    const __m256 first = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(low), _mm256_mul_ps(factor, scale[0])), bias[0]);
    const __m256 second = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(high), _mm256_mul_ps(factor, scale[1])), bias[1]);
    if (whole) {
      _mm256_storeu_ps(to, first);
      _mm256_storeu_ps(to + 8, second);
    } else {
      _mm256_maskstore_ps(to, rows[0], first);
      _mm256_maskstore_ps(to + 8, rows[1], second);
    }
  }
};

// What the sums of a tile are added to and what becomes of them: those of the last chunk go from registers to y.
struct Ends {
  bool accumulate;       // to `sums`
  std::int32_t* sums;    // [T, 16]
  const Finish* finish;  // null: leave them in `sums`
  std::int64_t token;    // the tile's first, in its block

  Ends from(std::int64_t t) const { return {accumulate, sums + t * kRows, finish, token + t}; }
};

// Sums of x[T, columns] . w[16, columns]^T; columns is a multiple of 16.
template <int T, class Weights>
void tile(Weights& weights, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
  // Shifted weights start from 0: int32 holds their sums over one chunk, not over all.
  const bool load = ends.accumulate && Weights::kShift == 0;
  const std::int32_t* const from = ends.sums;
  Weights w = weights;  // in registers
  __m256i low[T], high[T];
  UNROLL for (int t = 0; t < T; ++t) {
    low[t] = load ? _mm256_load_si256(reinterpret_cast<const __m256i*>(from + t * kRows)) : _mm256_setzero_si256();
    high[t] = load ? _mm256_load_si256(reinterpret_cast<const __m256i*>(from + t * kRows + 8)) : _mm256_setzero_si256();
  }
  for (std::int64_t k = 0; k < columns; k += 4) {
    w.enter();
    const Pair first = w.template pair<0>();
    UNROLL for (int t = 0; t < T; ++t) multiply_add(low[t], high[t], first, reinterpret_cast<const Two*>(x + t * kStride + k));
    const Pair second = w.template pair<1>();
    UNROLL for (int t = 0; t < T; ++t)
      multiply_add(low[t], high[t], second, reinterpret_cast<const Two*>(x + t * kStride + k + 2));
  }
  weights = w;
  if (Weights::kShift != 0) {
    UNROLL for (int t = 0; t < T; ++t) {
      low[t] = _mm256_srai_epi32(low[t], Weights::kShift);
      high[t] = _mm256_srai_epi32(high[t], Weights::kShift);
    }
  }
  if (Weights::kShift != 0 && ends.accumulate) {
    UNROLL for (int t = 0; t < T; ++t) {
      low[t] = _mm256_add_epi32(low[t], _mm256_load_si256(reinterpret_cast<const __m256i*>(from + t * kRows)));
      high[t] = _mm256_add_epi32(high[t], _mm256_load_si256(reinterpret_cast<const __m256i*>(from + t * kRows + 8)));
    }
  }
  if (ends.finish != nullptr) {
    const Finish& finish = *ends.finish;
    const std::int64_t token = ends.token;
    UNROLL for (int t = 0; t < T; ++t) finish(token + t, low[t], high[t]);
  } else {
    std::int32_t* const to = ends.sums;
    UNROLL for (int t = 0; t < T; ++t) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + t * kRows), low[t]);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + t * kRows + 8), high[t]);
    }
  }
}

template <class Weights>
void tile_of(std::int64_t tokens, Weights& weights, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
  switch (tokens) {
    case 1: return tile<1>(weights, x, columns, ends);
    case 2: return tile<2>(weights, x, columns, ends);
    case 3: return tile<3>(weights, x, columns, ends);
    case 4: return tile<4>(weights, x, columns, ends);
    case 5: return tile<5>(weights, x, columns, ends);
    default: return tile<6>(weights, x, columns, ends);
  }
}

[[maybe_unused]] void widen_x(const std::int8_t* x, std::int64_t ldx, std::int64_t tokens, std::int64_t columns, std::int16_t* out) {
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t k = 0; k < columns; k += 16)
      _mm256_store_si256(
          reinterpret_cast<__m256i*>(out + t * kStride + k),
          _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(x + t * ldx + k))));
}

// A whole call. `panels` hands out the weights of one panel after the other:
//
//   begin(panel)     a panel begins, at its first column; then, for each of its chunks in order,
//   stream(t, ...)   runs one tile of t tokens, or
//   keep(t, ...)     runs one and leaves the chunk as int16 in `words` for the tiles that follow
template <class Panels>
void run_panels(const LinearTask& task, std::int64_t outputs, std::int64_t k_padded, const float* scales,
                       const DenseQ8Tiling& tiling, Panels& panels) {
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunks = dense_q8_chunks(tiling, k_padded);
  const std::int64_t chunk = dense_q8_chunk(tiling, k_padded);
  const std::int64_t most = dense_q8_block(tiling, k_padded);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;

  auto* const wide_x = static_cast<std::int16_t*>(task.scratch);
  std::int16_t* const words = wide_x + chunks * held * kStride;
  auto* const sums = reinterpret_cast<std::int32_t*>(words + tiling.panel_bytes / 2);

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t k = c * chunk, columns = k_padded - k < chunk ? k_padded - k : chunk;
      widen_x(x + first * task.ldx + k, task.ldx, tokens, columns, wide_x + c * held * kStride);
    }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const Finish finish(task, outputs, scales, panel, first);
      panels.begin(panel);
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = k_padded - k < chunk ? k_padded - k : chunk;
        const std::int16_t* chunk_x = wide_x + c * held * kStride;
        const Ends ends{c != 0, sums, c + 1 == chunks ? &finish : nullptr, 0};
        if (tiles == 1) {
          panels.stream(tokens, chunk_x, columns, ends);
          continue;
        }
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          if (i == 0) {
            panels.keep(next, words, chunk_x, columns, ends);
          } else {
            Words ready{words};
            tile_of(next - t, ready, chunk_x + t * kStride, columns, ends.from(t));
          }
          t = next;
        }
      }
    }
  }
}

#undef UNROLL

}  // namespace
}  // namespace aerogel
