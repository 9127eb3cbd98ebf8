// blocks_q8 on AVX-512 VNNI: four rows at a time, whose blocks are at columns of their own, times V registers of 16 tokens x 4
// activations: 4 V sums.
//
// One vpdpbusd for 64 useful products, like the dense kernel, but with a load of its own (x is its unsigned side, which cannot come
// from memory). With 64 tokens 16 products need 16 such loads, 4 of weights and 1 of columns: bound by two loads a cycle, 10.5
// cycles, where the products alone take 8. With 16 tokens each weight serves one product, and its load would be as dear as
// that of x: three of four are spread out by shuffles of one load then, which leaves 3.5 cycles for 4 products (ports 0 and 5) instead of
// 4.5 (loads); and columns are loaded one by one, by the third load port, as taking four apart costs more than it saves there.
//
// A study of this design on an Emerald Rapids, weights pruned in blocks of 1x4, kernel alone, times as fast as dense_q8 at 50 / 60 / 70 / 80
// / 90 / 95 %: 1.13 1.34 1.70 2.36 4.02 6.13 (768x768, 128 tokens) and 1.17 1.37 1.73 2.38 3.87 5.71 (3072x768), where a row at a time
// ran 1.03 1.20 1.44 1.84 2.67 3.47 and .97 1.08 1.31 1.56 2.14 2.54. At 16 tokens, every weight loaded, .73 .91 1.22 1.81 3.19 4.79 and
// .89 1.11 1.46 2.18 3.90 5.91 (.73 .86 1.06 1.38 2.18 2.70 and .68 .79 .98 1.22 1.81 1.78).
//
// This file on Zen 5, 128 tokens, without the quantization of x, at 50 / 80 / 90 %: 1.16 2.55 4.3 (768x768), 1.15 2.5 4.2
// (3072x768), 1.19 2.4 3.7 (384x384).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#endif
#include <immintrin.h>

#include <cstring>

#include "linear/blocks_q8/layout.h"

// A loop left rolled would keep the sums in memory.
#define UNROLL _Pragma("GCC unroll 16")

namespace aerogel {
namespace {

constexpr std::int64_t kRows = kFourBlocksRows, kLists = kRows / 4;

// Rows become columns, 16 x 16.
inline __attribute__((always_inline)) void transpose16(__m512i (&r)[16]) {
  __m512i t[16];
  UNROLL for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  UNROLL for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  UNROLL for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  UNROLL for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

// The tile that layout.h draws: tokens [t, t + 16 V), of which those beyond the last repeat it; their sums are not used.
template <int V>
__attribute__((noinline)) void transpose_tile(const LinearTask& task, std::int64_t t, std::int64_t padded_k, std::uint8_t* tile) {
  const __m512i flip = _mm512_set1_epi8(-128);
  for (int v = 0; v < V; ++v, tile += 64) {
    const std::int8_t* from[16];
    for (int i = 0; i < 16; ++i) {
      const std::int64_t token = t + 16 * v + i;
      from[i] = static_cast<const std::int8_t*>(task.x) + (token < task.m ? token : task.m - 1) * task.ldx;
    }
    std::uint8_t* to = tile;
    for (std::int64_t k = 0; k < padded_k; k += 64, to += 16 * 64 * V) {
      __m512i r[16];
      UNROLL for (int i = 0; i < 16; ++i) r[i] = _mm512_xor_si512(_mm512_load_si512(from[i] + k), flip);
      transpose16(r);
      UNROLL for (int i = 0; i < 16; ++i) _mm512_store_si512(to + 64 * V * i, r[i]);
    }
  }
}

// Not the intrinsic: GCC 12 copies the accumulator before and after it.
inline __attribute__((always_inline)) void dot(__m512i& sum, __m512i x, __m512i w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}

template <int V>
inline __attribute__((always_inline)) void multiply(__m512i (&sum)[V], const std::uint8_t* x, __m512i w) {
  UNROLL for (int v = 0; v < V; ++v) dot(sum[v], _mm512_load_si512(x + 64 * v), w);
}

// Of three, GCC 12 would copy the sums to and fro.
inline __attribute__((always_inline)) void multiply(__m512i (&sum)[3], const std::uint8_t* x, __m512i w) {
  __m512i a, b, c;
  __asm__("vmovdqa64 (%[x]), %[a]\n\tvmovdqa64 64(%[x]), %[b]\n\tvmovdqa64 128(%[x]), %[c]\n\t"
          "vpdpbusd %[w], %[a], %[s]\n\tvpdpbusd %[w], %[b], %[t]\n\tvpdpbusd %[w], %[c], %[u]"
          : [s] "+v"(sum[0]), [t] "+v"(sum[1]), [u] "+v"(sum[2]), [a] "=&v"(a), [b] "=&v"(b), [c] "=&v"(c)
          : [w] "v"(w), [x] "r"(x), "m"(*reinterpret_cast<const std::uint8_t(*)[192]>(x)));
}

// Row `Row`'s four weights, sixteen times.
template <int Row>
inline __attribute__((always_inline)) __m512i spread(__m512i rows) {
  return _mm512_shuffle_epi32(rows, static_cast<_MM_PERM_ENUM>(Row * 0x55));
}

// Four bytes, or a sum that begins, sixteen times. Volatile, so that one register is not copied for many sums: GCC 12 then goes on to
// copy them in the loop.
template <class Four>
inline __attribute__((always_inline)) __m512i broadcast(const Four& four) {
  static_assert(sizeof four == 4);
  __m512i w;
  __asm__ volatile("vpbroadcastd %1, %0" : "=v"(w) : "m"(four));
  return w;
}

// The columns are stored for V = 4.
template <int V>
inline __attribute__((always_inline)) void add_blocks(const std::uint8_t* tile, const FourBlocks& block, __m512i (&sum)[4][V]) {
  if constexpr (V <= 2) {
    const __m512i rows = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.weight)));
    multiply(sum[0], tile + std::size_t{block.column[0]} * (2 * V), broadcast(block.weight[0]));
    multiply(sum[1], tile + std::size_t{block.column[1]} * (2 * V), spread<1>(rows));
    multiply(sum[2], tile + std::size_t{block.column[2]} * (2 * V), spread<2>(rows));
    multiply(sum[3], tile + std::size_t{block.column[3]} * (2 * V), spread<3>(rows));
  } else {
    std::uint64_t columns;
    std::memcpy(&columns, block.column, sizeof columns);
    if (V == 3) columns -= columns >> 2;  // of all four: they are multiples of 32
    UNROLL for (int r = 0; r < 4; ++r) multiply(sum[r], tile + (columns >> 16 * r & 0xffff) * 8, broadcast(block.weight[r]));
  }
}

// One list: sums[4][16 V] = `start`, or what they are if that is null, plus the products of its blocks.
template <int V>
__attribute__((noinline)) void add_list(const std::uint8_t* tile, const FourBlocks* block, const FourBlocks* end,
                                        const std::int32_t* start, std::int32_t* sums) {
  __m512i sum[4][V];
  if (start != nullptr) {
    UNROLL for (int r = 0; r < 4; ++r) UNROLL for (int v = 0; v < V; ++v) sum[r][v] = broadcast(start[r]);
  } else {
    UNROLL for (int r = 0; r < 4; ++r) UNROLL for (int v = 0; v < V; ++v) sum[r][v] = _mm512_load_si512(sums + 16 * (V * r + v));
  }
  if constexpr (V == 1) {  // four chains are too few for the latency of vpdpbusd
    __m512i more[4][V];
    UNROLL for (int r = 0; r < 4; ++r) more[r][0] = _mm512_setzero_si512();
    for (; end - block >= 2; block += 2) {
      add_blocks<V>(tile, block[0], sum);
      add_blocks<V>(tile, block[1], more);
    }
    UNROLL for (int r = 0; r < 4; ++r) sum[r][0] = _mm512_add_epi32(sum[r][0], more[r][0]);
  }
  for (; block != end; ++block) add_blocks<V>(tile, *block, sum);
  UNROLL for (int r = 0; r < 4; ++r) UNROLL for (int v = 0; v < V; ++v) _mm512_store_si512(sums + 16 * (V * r + v), sum[r][v]);
}

// 16 rows of 8 tokens out of their places, turned round: r[i] is token i.
inline __attribute__((always_inline)) void eight_tokens(const std::int32_t* sums, std::int64_t step,
                                                        const std::uint8_t* place, __m512i (&r)[8]) {
  UNROLL for (int i = 0; i < 8; ++i) {  // rows 0 .. 3 and 8 .. 11, each before the fourth from it
    const int row = i + (i & 4);
    const auto* low = reinterpret_cast<const __m256i*>(sums + place[row] * step);
    const auto* high = reinterpret_cast<const __m256i*>(sums + place[row + 4] * step);
    r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_load_si256(low)), _mm256_load_si256(high), 1);
  }
  __m512i t[8];
  UNROLL for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  __m512i u[8];  // four rows of tokens i % 4, i % 4 + 4, then four more
  UNROLL for (int i = 0; i < 8; i += 4) {
    u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  UNROLL for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(u[i], u[i + 4], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(u[i], u[i + 4], 0xdd);
  }
}

// All rows of `Sets` sets from `unit` on, whose sums stand at `sums` by place: taken in their own order, turned round, and
// written for tokens [t, t + 16 V), as far as they exist.
template <int V, int Sets>
__attribute__((noinline)) void write_sets(const LinearTask& task, const FourBlocksView& view, std::int64_t unit, std::int64_t t,
                                          const std::int32_t* sums) {
  const std::int64_t end = task.m - t < 16 * V ? task.m : t + 16 * V;
  for (; t < end; t += 8, sums += 8) {
    const std::int64_t left = end - t;
    for (std::int64_t set = 0; set < Sets; ++set) {
      const std::int64_t n = (unit + set) * kRows;
      __m512i r[2][8];
      __m512 scale[2], bias[2];
      __mmask16 mask[2];
      UNROLL for (int half = 0; half < 2; ++half) {
        const std::int64_t from = n + 16 * half, here = view.n - from;
        mask[half] = static_cast<__mmask16>(here >= 16 ? 0xffff : here > 0 ? (1 << here) - 1 : 0);
        scale[half] = _mm512_load_ps(view.scale + from);
        // Adding -0 changes no bit of any number: "no bias" needs no branch.
        bias[half] = _mm512_set1_ps(-0.0f);
        if (task.bias != nullptr) bias[half] = _mm512_mask_loadu_ps(bias[half], mask[half], task.bias + from);
        eight_tokens(sums + set * kRows * 16 * V, 16 * V, view.place + from, r[half]);
      }
      float* const y = task.y + t * task.ldy + n;
      UNROLL for (int i = 0; i < 8; ++i)
        if (i < left) {
          const __m512 factor = _mm512_set1_ps(task.x_scale[t + i]);
          UNROLL for (int half = 0; half < 2; ++half) {
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(r[half][i]), _mm512_mul_ps(factor, scale[half]));
            _mm512_mask_storeu_ps(y + i * task.ldy + 16 * half, mask[half], _mm512_add_ps(product, bias[half]));
          }
        }
    }
  }
}

// Tokens [t, t + 16 V), as far as they exist, of all units of the task.
template <int V>
void run_tile(const LinearTask& task, const FourBlocksView& view, std::int64_t t) {
  const std::int64_t padded_k = blocks_padded_k(view.k);
  auto* const tile = static_cast<std::uint8_t*>(task.scratch);
  auto* const sums = reinterpret_cast<std::int32_t*>(tile + padded_k * kFourBlocksTokens);
  transpose_tile<V>(task, t, padded_k, tile);
  // Where outputs of all tokens share one L1 set (rows of y are a multiple of 4 KB), four lines a token at a time instead of
  // two: 3072x768, 128 tokens, 90 % zeros on Zen 5: 4.2 times as fast as dense_q8 instead of 3.2. Elsewhere it costs 1 to 5
  // %, as the sums take twice the room.
  const std::int64_t most = task.ldy % 1024 == 0 ? kFourBlocksSets : 1;
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; unit += most) {
    const std::int64_t units = task.unit_end - unit < most ? task.unit_end - unit : most;
    const std::uint32_t* begin = view.begin + unit * view.chunks * kLists;
    for (std::int64_t set = 0; set < units; ++set)
      for (std::int64_t chunk = 0; chunk < view.chunks; ++chunk)
        for (std::int64_t list = 0; list < kLists; ++list, ++begin)
          add_list<V>(tile + chunk * view.chunk * 16 * V, view.blocks + begin[0], view.blocks + begin[1],
                      chunk == 0 ? view.start + (unit + set) * kRows + 4 * list : nullptr,
                      sums + (set * kRows + 4 * list) * 16 * V);
    units == 1 ? write_sets<V, 1>(task, view, unit, t, sums) : write_sets<V, kFourBlocksSets>(task, view, unit, t, sums);
  }
}

}  // namespace

void run_blocks_q8_avx512vnni(const LinearTask& task) {
  const auto& view = *static_cast<const FourBlocksView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += 64) {
    const std::int64_t left = task.m - t;
    if (left > 48)
      run_tile<4>(task, view, t);
    else if (left > 32)
      run_tile<3>(task, view, t);
    else if (left > 16)
      run_tile<2>(task, view, t);
    else
      run_tile<1>(task, view, t);
  }
}

}  // namespace aerogel
