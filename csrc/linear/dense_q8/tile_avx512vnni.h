// The register tile of dense int8 weights on AVX-512 VNNI and the loops around it, for the avx512vnni kernels that have such
// weights or make them from a packed form. All in an anonymous namespace: no copy can be shared with code compiled for another
// instruction set. What bounds it: avx512vnni.cpp.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTile = kDenseQ8TilingAvx512.tile;
constexpr std::int64_t kStride = kDenseQ8TilingAvx512.stride;
constexpr std::int64_t kRows = kDenseQ8Avx512.rows;

// DRAM streams: far enough ahead to cover the latency at full speed; nearer ones (1-2 KB) do nothing.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")
// A function left out of line would too.
#define INLINE inline __attribute__((always_inline))

// One token's x[k..k+3].
struct Four {
  std::int8_t k[4];
};

// sums of 32 rows += w[32, 4] . x[4]. Around _mm512_dpbusd_epi32, GCC 12 copies the accumulator.
INLINE void multiply_add(__m512i& low, __m512i& high, __m512i w_low, __m512i w_high, const Four* x) {
  __m512i four;
  __asm__(
      "vpbroadcastd %[x], %[four]\n\t"
      "vpdpbusd %[four], %[w0], %[low]\n\t"
      "vpdpbusd %[four], %[w1], %[high]"
      : [low] "+v"(low), [high] "+v"(high), [four] "=&v"(four)
      : [w0] "v"(w_low), [w1] "v"(w_high), [x] "m"(*x));
}

// Four columns of 32 rows.
struct Quad {
  __m512i low, high;
};

// Where a tile takes a panel's chunk from, in order.
template <bool Prefetch>
struct Codes {
  const std::int8_t* codes;

  INLINE Quad next() {
    if (Prefetch) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + 64), _MM_HINT_T0);
    }
    const Quad read = {_mm512_load_si512(codes), _mm512_load_si512(codes + 64)};
    codes += 128;
    return read;
  }
};

// The same, and one line a step of what is read next, into L2. All of that by one tile would ask more of L3 than it gives.
struct CodesAhead {
  const std::int8_t* codes;
  const std::int8_t* ahead;

  INLINE Quad next() {
    _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
    ahead += 64;
    const Quad read = {_mm512_load_si512(codes), _mm512_load_si512(codes + 64)};
    codes += 128;
    return read;
  }
};

// How the sums of a panel become y.
struct Finish {
  __m512 scale[2], bias[2];
  __mmask16 rows[2];
  const float* x_scale;  // of the block's tokens
  float* y;
  std::int64_t ldy;

  Finish(const LinearTask& task, std::int64_t outputs, const float* scales, std::int64_t panel, std::int64_t first_token)
      : x_scale(task.x_scale + first_token), y(task.y + first_token * task.ldy + panel * kRows), ldy(task.ldy) {
    for (std::int64_t half = 0; half < 2; ++half) {
      const std::int64_t n = panel * kRows + half * 16, here = outputs - n;
      rows[half] = static_cast<__mmask16>(here >= 16 ? 0xffff : here > 0 ? (1 << here) - 1 : 0);
      scale[half] = _mm512_load_ps(scales + n);
      // Adding -0 changes no bit of any number: "no bias" needs no branch.
      bias[half] = task.bias != nullptr ? _mm512_maskz_loadu_ps(rows[half], task.bias + n) : _mm512_set1_ps(-0.0f);
    }
  }

  INLINE void operator()(std::int64_t token, __m512i low, __m512i high) const {
    const __m512 factor = _mm512_set1_ps(x_scale[token]);
    float* const to = y + token * ldy;
    const __m512 first = _mm512_mul_ps(_mm512_cvtepi32_ps(low), _mm512_mul_ps(factor, scale[0]));
    const __m512 second = _mm512_mul_ps(_mm512_cvtepi32_ps(high), _mm512_mul_ps(factor, scale[1]));
    _mm512_mask_storeu_ps(to, rows[0], _mm512_add_ps(first, bias[0]));
    _mm512_mask_storeu_ps(to + 16, rows[1], _mm512_add_ps(second, bias[1]));
  }
};

// Where the sums of a tile begin and what becomes of them: those of the last chunk go from registers to y.
struct Ends {
  const std::int32_t* start;  // one a token: what the offset of the weights adds, negative; null: go on from `sums`
  std::int32_t* sums;         // [T, 32]
  const Finish* finish;       // null: leave them in `sums`
  std::int64_t token;         // the tile's first, in its block

  Ends from(std::int64_t t) const { return {start == nullptr ? nullptr : start + t, sums + t * kRows, finish, token + t}; }
};

// Sums of x[T, columns] . (w + 128)[32, columns]^T; columns is a multiple of 16.
template <int T, class Weights>
void tile(Weights& weights, const std::int8_t* x, std::int64_t columns, const Ends& ends) {
  constexpr int S = T <= 2 ? 4 : T <= 5 ? 2 : 1;  // steps of k in parallel: at least 10 chains of vpdpbusd, but for one token
  Weights w = weights;                            // in registers
  __m512i low[S][T], high[S][T];
  UNROLL for (int s = 1; s < S; ++s) {
    UNROLL for (int t = 0; t < T; ++t) low[s][t] = high[s][t] = _mm512_setzero_si512();
  }
  if (ends.start != nullptr) {
    UNROLL for (int t = 0; t < T; ++t) low[0][t] = high[0][t] = _mm512_set1_epi32(ends.start[t]);
  } else {
    UNROLL for (int t = 0; t < T; ++t) {
      low[0][t] = _mm512_load_si512(ends.sums + t * kRows);
      high[0][t] = _mm512_load_si512(ends.sums + t * kRows + 16);
    }
  }
  for (std::int64_t k = 0; k < columns; k += 4 * S) {
    UNROLL for (int s = 0; s < S; ++s) {
      const Quad quad = w.next();
      UNROLL for (int t = 0; t < T; ++t)
        multiply_add(low[s][t], high[s][t], quad.low, quad.high, reinterpret_cast<const Four*>(x + t * kStride + k + 4 * s));
    }
  }
  weights = w;
  UNROLL for (int t = 0; t < T; ++t) {
    UNROLL for (int s = 1; s < S; ++s) {
      low[0][t] = _mm512_add_epi32(low[0][t], low[s][t]);
      high[0][t] = _mm512_add_epi32(high[0][t], high[s][t]);
    }
  }
  if (ends.finish != nullptr) {
    const Finish finish = *ends.finish;  // in registers
    const std::int64_t token = ends.token;
    UNROLL for (int t = 0; t < T; ++t) finish(token + t, low[0][t], high[0][t]);
  } else {
    UNROLL for (int t = 0; t < T; ++t) {
      _mm512_store_si512(ends.sums + t * kRows, low[0][t]);
      _mm512_store_si512(ends.sums + t * kRows + 16, high[0][t]);
    }
  }
}

template <class Weights>
void tile_of(std::int64_t tokens, Weights& weights, const std::int8_t* x, std::int64_t columns, const Ends& ends) {
  switch (tokens) {
    case 1: return tile<1>(weights, x, columns, ends);
    case 2: return tile<2>(weights, x, columns, ends);
    case 3: return tile<3>(weights, x, columns, ends);
    case 4: return tile<4>(weights, x, columns, ends);
    case 5: return tile<5>(weights, x, columns, ends);
    case 6: return tile<6>(weights, x, columns, ends);
    case 7: return tile<7>(weights, x, columns, ends);
    case 8: return tile<8>(weights, x, columns, ends);
    case 9: return tile<9>(weights, x, columns, ends);
    case 10: return tile<10>(weights, x, columns, ends);
    case 11: return tile<11>(weights, x, columns, ends);
    default: return tile<12>(weights, x, columns, ends);
  }
}

// One token into the tiling; returns -128 * sum_k x, what takes the offset of the weights off. Whole lines: x is zero beyond K, up to a multiple of 64.
[[maybe_unused]] std::int32_t copy_x(const std::int8_t* x, std::int64_t k_padded, std::int64_t chunk, std::int64_t chunk_step, std::int8_t* out) {
  __m512i sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t begin = 0; begin < k_padded; begin += chunk, out += chunk_step) {
    const std::int64_t end = k_padded - begin < chunk ? k_padded : begin + chunk;
    for (std::int64_t k = begin; k < end; k += 64) {
      const __m512i line = _mm512_load_si512(x + k);
      sum = _mm512_dpbusd_epi32(sum, ones, line);
      _mm512_store_si512(out + k - begin, line);
    }
  }
  return static_cast<std::int32_t>(0u - (static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum)) << 7));  // modulo 2^32
}

// A whole call. `panels` hands out the weights of one panel after the other:
//
//   begin(panel)     a panel begins, at its first column; then, for each of its chunks in order,
//   stream(t, ...)   runs one tile of t tokens, or
//   keep(t, ...)     runs one and returns where the tiles that follow find the chunk's codes, perhaps in `room`
//   kInPlace         they are where the weights are, and what is read next follows them
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

  auto* const copied_x = static_cast<std::int8_t*>(task.scratch);
  std::int8_t* const room = copied_x + chunks * held * kStride;
  auto* const sums = reinterpret_cast<std::int32_t*>(room + tiling.panel_bytes);
  std::int32_t* const start = sums + held * kRows;

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t t = 0; t < tokens; ++t)
      start[t] = copy_x(x + (first + t) * task.ldx, k_padded, chunk, held * kStride, copied_x + t * kStride);
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const Finish finish(task, outputs, scales, panel, first);
      panels.begin(panel);
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = k_padded - k < chunk ? k_padded - k : chunk;
        const std::int8_t* chunk_x = copied_x + c * held * kStride;
        const Ends ends{c == 0 ? start : nullptr, sums, c + 1 == chunks ? &finish : nullptr, 0};
        if (tiles == 1) {
          panels.stream(tokens, chunk_x, columns, ends);
          continue;
        }
        const std::int8_t* codes = nullptr;
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          if (i == 0) {
            codes = panels.keep(next, room, chunk_x, columns, ends);
          } else if (Panels::kInPlace && i == 1) {  // the first has brought half of what is read next
            CodesAhead ready{codes, codes + columns * kRows / 2 * 3};
            tile_of(next - t, ready, chunk_x + t * kStride, columns, ends.from(t));
          } else {
            Codes<false> ready{codes};
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
