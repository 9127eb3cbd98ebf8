// blocks_q8 on AVX-512 VNNI: one block is a broadcast of four weights times registers of 16 tokens x 4 activations.
//
// One vpdpbusd for 64 useful products, like the dense kernel, but with a load of its own (x is its unsigned side, which
// cannot come from memory) and, for R registers, 1/R broadcast and 1/R column: bound by the two loads a cycle, 1.5 of them for
// each product with 64 tokens. Not yet timed on hardware.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#endif
#include <immintrin.h>

#include "linear/blocks_q8/layout.h"
#include "linear/rows8_avx2.h"

// A loop left rolled would keep the sums in memory.
#define UNROLL _Pragma("GCC unroll 16")

namespace aerogel {
namespace {

// The tile that layout.h draws, of `groups` times 8 tokens of which `count` exist; the others repeat the last one, their sums
// are not used.
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t groups, std::int64_t padded_k,
                    std::uint8_t* tile) {
  const __m256i flip = _mm256_set1_epi8(-128);
  for (std::int64_t group = 0; group < groups; ++group) {
    std::uint8_t* to = tile + group / 2 * 16 * padded_k + group % 2 * 32;
    const std::int8_t* from[8];
    for (int t = 0; t < 8; ++t) from[t] = x + (8 * group + t < count ? 8 * group + t : count - 1) * ldx;
    for (std::int64_t k = 0; k < padded_k; k += 32, to += 8 * 64) {
      __m256i block[8];
      transpose8([&](int t) { return load(from[t] + k); }, block);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) store(to + 64 * i, _mm256_xor_si256(block[i], flip));
    }
  }
}

// Not the intrinsic: GCC 12 copies the accumulator before and after it.
inline __attribute__((always_inline)) void dot(__m512i& sum, __m512i x, __m512i w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}

// The products of U blocks for 16 R tokens, each block into sums of its own.
template <int R, int U>
inline __attribute__((always_inline)) void add_blocks(const std::uint8_t* const* subtile, const Block* block, __m512i (&sum)[U][R]) {
  UNROLL for (int u = 0; u < U; ++u) {
    const std::size_t column = std::size_t{block[u].column} * 8;
    // Four bytes that need not be aligned, as an instruction of its own for the reason above.
    __m512i w;
    __asm__("vpbroadcastd %1, %0" : "=v"(w) : "m"(block[u].weight));
    UNROLL for (int r = 0; r < R; ++r) dot(sum[u][r], _mm512_load_si512(subtile[r] + column), w);
  }
}

// One row, one chunk: sums[16 R] = or += the products of its blocks, for R subtiles.
template <int R>
__attribute__((noinline)) void add_row(const std::uint8_t* tile, std::int64_t subtile_bytes, const Block* block, const Block* end,
                                       bool first, std::int32_t* sums) {
  constexpr int U = R == 1 ? 8 : R == 2 ? 4 : 2;  // chains enough to cover the latency of vpdpbusd
  const std::uint8_t* subtile[R];
  __m512i sum[U][R], last[1][R];
  UNROLL for (int r = 0; r < R; ++r) {
    subtile[r] = tile + r * subtile_bytes;
    UNROLL for (int u = 0; u < U; ++u) sum[u][r] = _mm512_setzero_si512();
    last[0][r] = first ? _mm512_setzero_si512() : _mm512_load_si512(sums + 16 * r);
  }
  for (; end - block >= U; block += U) add_blocks<R, U>(subtile, block, sum);
  for (; block != end; ++block) add_blocks<R, 1>(subtile, block, last);
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int u = 0; u < U; ++u) last[0][r] = _mm512_add_epi32(last[0][r], sum[u][r]);
    _mm512_store_si512(sums + 16 * r, last[0][r]);
  }
}

// Turns the sums of rows n .. n + 7 round, 8 tokens at a time, and writes tokens [t, t_end).
void write_tile(const LinearTask& task, const BlocksView& v, const std::int32_t* sums, std::int64_t stride, std::int64_t n,
                std::int64_t t, std::int64_t t_end) {
  const Writer write(task, v, n);
  const __m256i offset = load(v.offset + n);
  for (; t < t_end; t += 8, sums += 8) {
    __m256i sum[8];
    transpose8(sums, stride, sum);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      if (t + j < t_end) write(t + j, _mm256_sub_epi32(sum[j], offset));
  }
}

// Tokens [t, t_end), at most 16 R, of all units of the task.
template <int R>
void run_tile(const LinearTask& task, const BlocksView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = blocks_padded_k(v.k);
  auto* tile = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * kBlocksAvx512Tokens);
  transpose_tile(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, 2 * R, padded_k, tile);
  const std::int64_t row_end = task.unit_end * kBlocksRows < v.n ? task.unit_end * kBlocksRows : v.n;
  // With several chunks, one is used for a set of rows before the next takes its place in L1.
  const std::int64_t step = v.chunks == 1 ? kBlocksRows : kBlocksSetRows;
  for (std::int64_t n = task.unit_begin * kBlocksRows; n < row_end; n += step) {
    const std::int64_t rows = row_end - n < step ? row_end - n : step;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::uint8_t* columns = tile + chunk * v.chunk * 16;
      const std::uint32_t* begin = v.begin + chunk * v.n + n;
      for (std::int64_t r = 0; r < rows; ++r)
        add_row<R>(columns, padded_k * 16, v.blocks + begin[r], v.blocks + begin[r + 1], chunk == 0, sums + r * 16 * R);
    }
    // Behind the last row stand leftovers, which go nowhere.
    for (std::int64_t r = 0; r < rows; r += 8) write_tile(task, v, sums + r * 16 * R, 16 * R, n + r, t, t_end);
  }
}

}  // namespace

void run_blocks_q8_avx512vnni(const LinearTask& task) {
  const auto& v = *static_cast<const BlocksView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += 64) {
    const std::int64_t left = task.m - t;
    if (left > 48)
      run_tile<4>(task, v, t, left < 64 ? task.m : t + 64);
    else if (left > 32)
      run_tile<3>(task, v, t, task.m);
    else if (left > 16)
      run_tile<2>(task, v, t, task.m);
    else
      run_tile<1>(task, v, t, task.m);
  }
}

}  // namespace aerogel
