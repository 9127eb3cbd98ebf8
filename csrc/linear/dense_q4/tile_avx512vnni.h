// The register tile of 4-bit integers on AVX-512 VNNI and the loops around it, for the avx512vnni kernels that have such weights or
// make them from a packed form. All in an anonymous namespace: no copy can be shared with code compiled for another instruction
// set. What bounds it: avx512vnni.cpp. Tables are not run here but as dense_q8.
#pragma once

#include "linear/dense_q4/layout.h"
#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

static_assert(kDenseQ4TilingAvx512.tile == kTile && kDenseQ4TilingAvx512.stride == kStride, "the tiling of dense_q8");

// Half as many tokens as in a tile of dense_q8, so that the sums of a block and those of all blocks are in registers: with
// 12 tokens, and the latter in memory, the end of a block took some 55 cycles on Zen 5, where its 64 columns take 192.
constexpr std::int64_t kHalfTile = kTile / 2;

#define UNROLL _Pragma("GCC unroll 16")

// Where a tile takes a panel's chunk from, in order: two indices in a byte, of rows 0 .. 15 and of rows 16 .. 31; with Keep also
// stored, one in a byte.
template <bool Keep>
struct Nibbles {
  const std::uint8_t* index;
  std::uint8_t* bytes;

  Quad next() {
    _mm_prefetch(reinterpret_cast<const char*>(index + kPrefetchBytes), _MM_HINT_T0);
    const __m512i both = _mm512_load_si512(index), mask = _mm512_set1_epi8(15);
    const Quad read = {_mm512_and_si512(both, mask), _mm512_and_si512(_mm512_srli_epi16(both, 4), mask)};
    index += 64;
    if (Keep) {
      _mm512_store_si512(bytes, read.low);
      _mm512_store_si512(bytes + 64, read.high);
      bytes += 128;
    }
    return read;
  }
};

// One in a byte.
struct Bytes {
  const std::uint8_t* bytes;

  Quad next() {
    const Quad read = {_mm512_load_si512(bytes), _mm512_load_si512(bytes + 64)};
    bytes += 128;
    return read;
  }
};

// The groups of a panel, one block after the other.
struct Groups {
  const std::uint8_t* multiplier;  // of the block's group, or null
  const std::int8_t* offset;
  std::int64_t blocks;  // of a group
  std::int64_t left;    // of this group

  void next() {
    if (--left != 0) return;
    left = blocks;
    if (multiplier != nullptr) multiplier += kRows;
    if (offset != nullptr) offset += kRows;
  }
};

inline __m128i sixteen(const void* bytes) { return _mm_loadu_si128(static_cast<const __m128i*>(bytes)); }

// sums[T, 32] (+)= x[T, columns] . code[32, columns]^T, block by block. sum_x[t, block]: sum x, or without Offsets
// what the zero of all adds, -zero * sum x.
template <int T, bool Offsets, class Indices>
void block_tile(Indices& indices, Groups& groups, const std::int8_t* x, const std::int32_t* sum_x, std::int64_t sum_x_step,
                std::int64_t columns, std::int64_t block, std::int32_t* sums, bool accumulate) {
  constexpr int S = T <= 2 ? 4 : T <= 4 ? 2 : 1;  // steps of k in parallel
  Indices from = indices;                         // in registers
  Groups here = groups;
  __m512i total_low[T], total_high[T];
  UNROLL for (int t = 0; t < T; ++t) {
    total_low[t] = accumulate ? _mm512_load_si512(sums + t * kRows) : _mm512_setzero_si512();
    total_high[t] = accumulate ? _mm512_load_si512(sums + t * kRows + 16) : _mm512_setzero_si512();
  }
  for (std::int64_t begin = 0; begin < columns; begin += block, ++sum_x) {
    const std::int64_t end = columns - begin < block ? columns : begin + block;
    __m512i low[S][T], high[S][T];
    UNROLL for (int t = 0; t < T; ++t) {
      low[0][t] = high[0][t] = Offsets ? _mm512_setzero_si512() : _mm512_set1_epi32(sum_x[t * sum_x_step]);
      UNROLL for (int s = 1; s < S; ++s) low[s][t] = high[s][t] = _mm512_setzero_si512();
    }
    for (std::int64_t k = begin; k < end; k += 4 * S) {
      UNROLL for (int s = 0; s < S; ++s) {
        const Quad quad = from.next();
        UNROLL for (int t = 0; t < T; ++t)
          multiply_add(low[s][t], high[s][t], quad.low, quad.high, reinterpret_cast<const Four*>(x + t * kStride + k + 4 * s));
      }
    }
    __m512i multiplier_low = _mm512_set1_epi32(1), multiplier_high = _mm512_set1_epi32(1);
    if (here.multiplier != nullptr) {
      multiplier_low = _mm512_cvtepu8_epi32(sixteen(here.multiplier));
      multiplier_high = _mm512_cvtepu8_epi32(sixteen(here.multiplier + 16));
    }
    UNROLL for (int t = 0; t < T; ++t) {
      UNROLL for (int s = 1; s < S; ++s) {
        low[0][t] = _mm512_add_epi32(low[0][t], low[s][t]);
        high[0][t] = _mm512_add_epi32(high[0][t], high[s][t]);
      }
      total_low[t] = _mm512_add_epi32(total_low[t], _mm512_mullo_epi32(low[0][t], multiplier_low));
      total_high[t] = _mm512_add_epi32(total_high[t], _mm512_mullo_epi32(high[0][t], multiplier_high));
    }
    if (Offsets) {
      const __m512i offset_low = _mm512_cvtepi8_epi32(sixteen(here.offset));
      const __m512i offset_high = _mm512_cvtepi8_epi32(sixteen(here.offset + 16));
      UNROLL for (int t = 0; t < T; ++t) {
        const __m512i sum = _mm512_set1_epi32(sum_x[t * sum_x_step]);
        total_low[t] = _mm512_add_epi32(total_low[t], _mm512_mullo_epi32(sum, offset_low));
        total_high[t] = _mm512_add_epi32(total_high[t], _mm512_mullo_epi32(sum, offset_high));
      }
    }
    here.next();
  }
  UNROLL for (int t = 0; t < T; ++t) {
    _mm512_store_si512(sums + t * kRows, total_low[t]);
    _mm512_store_si512(sums + t * kRows + 16, total_high[t]);
  }
  indices = from;
  groups = here;
}

// One tile of a chunk, with everything but its indices.
template <bool Offsets>
struct Tile {
  std::int64_t tokens;
  Groups& groups;
  const std::int8_t* x;
  const std::int32_t* sum_x;
  std::int64_t sum_x_step;
  std::int64_t columns;
  std::int64_t block;
  std::int32_t* sums;
  bool accumulate;

  template <int T, class Indices>
  void run(Indices& from) const {
    block_tile<T, Offsets>(from, groups, x, sum_x, sum_x_step, columns, block, sums, accumulate);
  }
  template <class Indices>
  void operator()(Indices& from) const {
    switch (tokens) {
      case 1: return run<1>(from);
      case 2: return run<2>(from);
      case 3: return run<3>(from);
      case 4: return run<4>(from);
      case 5: return run<5>(from);
      default: return run<6>(from);
    }
  }
};

// Columns of one token into the tiling, a multiple of 32; returns their sum.
std::int32_t copy_block(const std::int8_t* x, std::int64_t columns, std::int8_t* out) {
  __m256i sum = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi8(1);
  for (std::int64_t k = 0; k < columns; k += 32) {
    const __m256i line = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + k));
    sum = _mm256_dpbusd_epi32(sum, ones, line);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + k), line);
  }
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return _mm_cvtsi128_si32(four);
}

// What a format says of its panels.
struct Shape {
  std::int64_t n, k_padded, group, groups;
  const std::uint8_t* multiplier;
  const std::int8_t* offset;
  std::int8_t same_zero;
  const float* scale;
};

// A whole call. `panels` hands out the indices of one panel after the other:
//
//   begin(panel)                          a panel begins, at its first column; then, for each of its chunks in order,
//   first(tile, columns, bytes, more)     runs one tile, and with `more` leaves the chunk in `bytes` for the tiles that follow
template <bool Offsets, class Panels>
void run_blocks(const LinearTask& task, const Shape& w, Panels& panels) {
  const DenseQ8Tiling& tiling = kDenseQ4TilingAvx512;
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunk = tiling.chunk, chunks = dense_q8_chunks(tiling, w.k_padded);
  const std::int64_t most = dense_q8_block(tiling, w.k_padded);
  const std::int64_t passes = (task.m + most - 1) / most;
  const std::int64_t pass = ((task.m + passes - 1) / passes + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;
  // Columns that are multiplied at once, at most 128: a part of a group, and of a chunk.
  const std::int64_t block = w.groups == 1 || w.group % 128 == 0 ? 128 : w.group % 64 == 0 ? 64 : 32;
  const std::int64_t blocks = (w.k_padded + block - 1) / block, blocks_of_group = w.groups == 1 ? blocks : w.group / block;

  auto* const copied_x = static_cast<std::int8_t*>(task.scratch);
  auto* const bytes = reinterpret_cast<std::uint8_t*>(copied_x + chunks * held * kStride);
  auto* const sums = reinterpret_cast<std::int32_t*>(bytes + tiling.panel_bytes);
  std::int32_t* const sum_x = sums + held * kRows;

  for (std::int64_t first = 0; first < task.m; first += pass) {
    const std::int64_t tokens = task.m - first < pass ? task.m - first : pass;
    const std::int64_t tiles = (tokens + kHalfTile - 1) / kHalfTile;
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t b = 0; b < blocks; ++b) {
        const std::int64_t k = b * block, columns = w.k_padded - k < block ? w.k_padded - k : block;
        sum_x[t * blocks + b] = (Offsets ? 1 : -w.same_zero) *
                                copy_block(x + (first + t) * task.ldx + k, columns, copied_x + (k / chunk * held + t) * kStride + k % chunk);
      }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const std::int64_t row = panel * w.groups * kRows;
      Groups groups = {w.multiplier == nullptr ? nullptr : w.multiplier + row, w.offset == nullptr ? nullptr : w.offset + row,
                       blocks_of_group, blocks_of_group};
      panels.begin(panel);
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        const Groups begin = groups;
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          groups = begin;
          const Tile<Offsets> here{next - t, groups,  copied_x + (c * held + t) * kStride, sum_x + t * blocks + k / block,
                                 blocks,   columns, block,                               sums + t * kRows,
                                 c != 0};
          if (i == 0) {
            panels.first(here, columns, bytes, tiles > 1);
          } else {
            Bytes ready{bytes};
            here(ready);
          }
          t = next;
        }
      }
      const Finish finish(task, w.n, w.scale, panel, first);
      for (std::int64_t t = 0; t < tokens; ++t)
        finish(t, _mm512_load_si512(sums + t * kRows), _mm512_load_si512(sums + t * kRows + 16));
    }
  }
}

#undef UNROLL

}  // namespace
}  // namespace aerogel
