// The register tile of 4-bit integers on AVX2 and the loops around it, for the avx2 kernels that have such weights or make them
// from a packed form. All in an anonymous namespace: no copy can be shared with code compiled for another instruction set. What
// bounds it: avx2.cpp.
#pragma once

#include <immintrin.h>

#include "linear/dense_q4/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr DenseQ8Tiling kTiling = kDenseQ4TilingAvx2;
constexpr std::int64_t kTile = kTiling.tile;
constexpr std::int64_t kStride = kTiling.stride;
constexpr std::int64_t kRows = kDenseQ4Avx2.rows;

// DRAM streams: far enough ahead to cover the latency at full speed.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

// One token's x[k..k+3].
struct Four {
  std::int8_t k[4];
};

inline __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }

// 16-bit sums of 16 rows += index[16, 4] . x[4]. As intrinsics, GCC 12 computes the products of all tokens first and spills.
inline void multiply_add(__m256i& low, __m256i& high, __m256i w_low, __m256i w_high, const Four* x) {
  __m256i a, b;
  __asm__(
      "vpbroadcastd %[x], %[b]\n\t"
      "vpmaddubsw %[b], %[w0], %[a]\n\t"
      "vpmaddubsw %[b], %[w1], %[b]\n\t"
      "vpaddw %[a], %[low], %[low]\n\t"
      "vpaddw %[b], %[high], %[high]"
      : [low] "+x"(low), [high] "+x"(high), [a] "=&x"(a), [b] "=&x"(b)
      : [w0] "x"(w_low), [w1] "x"(w_high), [x] "m"(*x));
}

// 16 bytes, one a row, as int16 that stand twice, at both lanes of their row.
struct Lanes {
  __m256i low, high;
};
inline Lanes unsigned_lanes(const std::uint8_t* bytes) {
  const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  const __m256i rows = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,  //
                                        4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
  return {_mm256_shuffle_epi8(all, rows), _mm256_shuffle_epi8(all, _mm256_add_epi8(rows, _mm256_set1_epi16(8)))};
}
inline Lanes signed_lanes(const std::int8_t* bytes) {
  const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  const __m256i rows = _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,  //
                                        -1, 4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7);
  const __m256i next = _mm256_set1_epi16(8 << 8);
  return {_mm256_srai_epi16(_mm256_shuffle_epi8(all, rows), 8),
          _mm256_srai_epi16(_mm256_shuffle_epi8(all, _mm256_add_epi8(rows, next)), 8)};
}

// Where a tile takes a chunk's indices from, in order: four columns of 16 rows. enter() and leave() stand around 32 columns.
struct Quad {
  __m256i low, high;
};

// One in a byte.
struct Bytes {
  const std::uint8_t* bytes;

  void enter() {}
  void leave() {}
  Quad next() {
    const Quad read = {load(bytes), load(bytes + 32)};
    bytes += 64;
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

// sums[T, 16] (+)= x[T, columns] . code[16, columns]^T; columns is a multiple of 32. sum_x[t, block]: sum x, or without
// Offsets what the zero of all adds, -zero * sum x; one int16 for columns 0 and 1 of every four, one for 2 and 3.
template <int T, bool Offsets, class Indices>
void tile(Indices& indices, Groups& groups, const std::int8_t* x, const std::int32_t* sum_x, std::int64_t sum_x_step,
          std::int64_t columns, std::int32_t* sums, bool accumulate) {
  Indices from = indices;  // in registers
  Groups here = groups;
  if (!accumulate)
    for (int t = 0; t < T; ++t) {
      store(sums + t * kRows, _mm256_setzero_si256());
      store(sums + t * kRows + 8, _mm256_setzero_si256());
    }
  for (std::int64_t k = 0; k < columns; k += kQ4Block, ++sum_x, x += kQ4Block) {
    __m256i low[T], high[T];
    UNROLL for (int t = 0; t < T; ++t) low[t] = high[t] = Offsets ? _mm256_setzero_si256() : _mm256_set1_epi32(sum_x[t * sum_x_step]);
    from.enter();
    UNROLL for (std::int64_t step = 0; step < kQ4Block; step += 4) {
      const Quad quad = from.next();
      UNROLL for (int t = 0; t < T; ++t)
        multiply_add(low[t], high[t], quad.low, quad.high, reinterpret_cast<const Four*>(x + t * kStride + step));
    }
    Lanes multiplier = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
    if (here.multiplier != nullptr) multiplier = unsigned_lanes(here.multiplier);
    Lanes offset = multiplier;
    if (Offsets) offset = signed_lanes(here.offset);
    UNROLL for (int t = 0; t < T; ++t) {
      std::int32_t* const to = sums + t * kRows;
      __m256i first = _mm256_madd_epi16(low[t], multiplier.low), second = _mm256_madd_epi16(high[t], multiplier.high);
      if (Offsets) {
        const __m256i sum = _mm256_set1_epi32(sum_x[t * sum_x_step]);
        first = _mm256_add_epi32(first, _mm256_madd_epi16(sum, offset.low));
        second = _mm256_add_epi32(second, _mm256_madd_epi16(sum, offset.high));
      }
      store(to, _mm256_add_epi32(load(to), first));
      store(to + 8, _mm256_add_epi32(load(to + 8), second));
    }
    from.leave();
    here.next();
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
  std::int32_t* sums;
  bool accumulate;

  template <class Indices>
  void one(Indices& from) const {
    tile<1, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
  }
  template <class Indices>
  void operator()(Indices& from) const {
    switch (tokens) {
      case 1: return tile<1, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
      case 2: return tile<2, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
      case 3: return tile<3, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
      case 4: return tile<4, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
      case 5: return tile<5, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
      default: return tile<6, Offsets>(from, groups, x, sum_x, sum_x_step, columns, sums, accumulate);
    }
  }
};

// One chunk of a token into the tiling, and the sums of its blocks, times `factor`.
void copy_x(const std::int8_t* x, std::int64_t columns, std::int32_t factor, std::int8_t* out, std::int32_t* sum_x) {
  const __m256i ones = _mm256_set1_epi8(1), factors = _mm256_set1_epi16(static_cast<std::int16_t>(factor));
  for (std::int64_t k = 0; k < columns; k += kQ4Block) {
    const __m256i line = load(x + k);
    store(out + k, line);
    const __m256i pairs = _mm256_maddubs_epi16(ones, line);  // at most 2 * 127
    __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 0xb1));
    sum_x[k / kQ4Block] = _mm_cvtsi128_si32(_mm_mullo_epi16(sum, _mm256_castsi256_si128(factors)));
  }
}

// Sums of one panel to y.
void finish(const LinearTask& task, std::int64_t outputs, const float* scales, std::int64_t panel,
            std::int64_t first_token, std::int64_t tokens,
            const std::int32_t* sums) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t n = panel * kRows + half * 8;
    if (n >= outputs) return;
    const bool whole = n + 8 <= outputs;
    const __m256i rows = _mm256_cmpgt_epi32(_mm256_set1_epi32(whole ? 8 : static_cast<int>(outputs - n)), lane);
    const __m256 scale = _mm256_load_ps(scales + n);
    const __m256 bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, rows) : _mm256_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      const __m256 sum = _mm256_cvtepi32_ps(load(sums + t * kRows + half * 8));
      __m256 value = _mm256_mul_ps(sum, _mm256_mul_ps(_mm256_set1_ps(task.x_scale[first_token + t]), scale));
      if (task.bias != nullptr) value = _mm256_add_ps(value, bias);
      float* y = task.y + (first_token + t) * task.ldy + n;
      if (whole)
        _mm256_storeu_ps(y, value);
      else
        _mm256_maskstore_ps(y, rows, value);
    }
  }
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
void run_panels(const LinearTask& task, const Shape& w, Panels& panels) {
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunks = dense_q8_chunks(kTiling, w.k_padded);
  const std::int64_t chunk = dense_q8_chunk(kTiling, w.k_padded);
  const std::int64_t most = dense_q8_block(kTiling, w.k_padded);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;
  const std::int64_t sum_x_step = w.k_padded / kQ4Block, blocks_of_group = w.group / kQ4Block;

  auto* const copied_x = static_cast<std::int8_t*>(task.scratch);
  auto* const bytes = reinterpret_cast<std::uint8_t*>(copied_x + chunks * held * kStride);
  auto* const sums = reinterpret_cast<std::int32_t*>(bytes + kTiling.panel_bytes);
  std::int32_t* const sum_x = sums + held * kRows;

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        copy_x(x + (first + t) * task.ldx + k, columns, Offsets ? 1 : -w.same_zero, copied_x + (c * held + t) * kStride,
               sum_x + t * sum_x_step + k / kQ4Block);
      }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const std::int64_t row = panel * w.groups * kRows;
      Groups groups = {w.multiplier == nullptr ? nullptr : w.multiplier + row, w.offset == nullptr ? nullptr : w.offset + row,
                       blocks_of_group, blocks_of_group};
      panels.begin(panel);
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        const std::int8_t* chunk_x = copied_x + c * held * kStride;
        const std::int32_t* chunk_sum = sum_x + k / kQ4Block;
        const Groups begin = groups;
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          groups = begin;
          const Tile<Offsets> here{next - t,   groups,  chunk_x + t * kStride, chunk_sum + t * sum_x_step,
                                 sum_x_step, columns, sums + t * kRows,      c != 0};
          if (i == 0) {
            panels.first(here, columns, bytes, tiles > 1);
          } else {
            Bytes ready{bytes};
            here(ready);
          }
          t = next;
        }
      }
      finish(task, w.n, w.scale, panel, first, tokens, sums);
    }
  }
}

#undef UNROLL

}  // namespace
}  // namespace aerogel
