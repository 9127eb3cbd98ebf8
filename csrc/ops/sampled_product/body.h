// Over the vocabulary of a vector/<isa>.h, which is included before.
//
// Tokens are on the lanes, a tile of them at a time, and of x a block of columns that stays in the nearest caches:
//
//     yt   row n     | y[0][n]  y[1][n] ... |    the tokens of row n stay in registers, Isa::vectors of them, while its kept
//     xt   column k  | x[0][k]  x[1][k] ... |    columns of the block pass by: one load a multiply-add
//
// Lanes are summed for four places together, and the sums added to `out`, once a tile.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

template <class Isa>
constexpr std::int64_t kTile = Isa::vectors * kLanes;

// to[columns][kTile], some lanes of it: tokens of x, and zeros where none are left.
template <class Isa>
void transpose_tile(const float* x, std::int64_t ldx, std::int64_t valid, std::int64_t columns, float* to) {
  constexpr std::int64_t tile = kTile<Isa>, side = sizeof(Vector8) / sizeof(float);
  std::int64_t t = 0;
  for (; t + side <= valid && t < tile; t += side) {
    std::int64_t c = 0;
    for (; c + side <= columns; c += side) {
      Vector8 square[side];
#pragma GCC unroll 8
      for (int j = 0; j < side; ++j) load(x + (t + j) * ldx + c, square[j]);
      transpose(square);
#pragma GCC unroll 8
      for (int j = 0; j < side; ++j) store(to + (c + j) * tile + t, square[j]);
    }
    for (; c < columns; ++c)
      for (std::int64_t j = 0; j < side; ++j) to[c * tile + t + j] = x[(t + j) * ldx + c];
  }
  for (; t < tile; ++t)
    for (std::int64_t c = 0; c < columns; ++c) to[c * tile + t] = t < valid ? x[t * ldx + c] : 0.0f;
}

// begins[block][n]: the first place of row n whose column is not before the block, for each block and behind the last one.
inline void find_blocks(const SampledTask& task, std::int64_t width, std::int64_t blocks, std::int32_t* begins) {
  for (std::int64_t n = 0; n < task.rows; ++n) {
    std::int32_t i = task.row_begin[n];
    for (std::int64_t block = 0; block < blocks; ++block) {
      while (i < task.row_begin[n + 1] && task.column[i] < block * width) ++i;
      begins[block * task.rows + n] = i;
    }
    begins[blocks * task.rows + n] = task.row_begin[n + 1];
  }
}

// out[j] += row . xt[column[j]], j < count <= 4; where there are fewer, the last one again.
template <class Isa>
inline void multiply_four(const Vector (&row)[Isa::vectors], const float* xt, const std::int32_t* column, std::int64_t count, float* out) {
  const float* at[4];
#pragma GCC unroll 4
  for (std::int64_t j = 0; j < 4; ++j) at[j] = xt + static_cast<std::int64_t>(column[j < count ? j : count - 1]) * kTile<Isa>;
  Vector sum[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) sum[j] = mul(row[0], load(at[j]));
#pragma GCC unroll 16
  for (int v = 1; v < Isa::vectors; ++v)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sum[j] = fma(row[v], load(at[j] + v * kLanes), sum[j]);
  float sums[4];
  store_sums_of_four(sums, sum[0], sum[1], sum[2], sum[3]);
  if (count == 4) {
    Vector4 four, before;
    load(sums, four);
    load(out, before);
    store(out, add(before, four));
  } else {
    for (std::int64_t j = 0; j < count; ++j) out[j] += sums[j];
  }
}

template <class Isa>
void sampled_product(const SampledTask& task) {
  constexpr std::int64_t tile = kTile<Isa>, width = Isa::columns;
  static_assert(tile <= kMostSampledTokens && width >= kFewestSampledColumns, "scratch holds no more");
  const std::int64_t blocks = (task.k + width - 1) / width;
  float* xt = static_cast<float*>(task.scratch);
  float* yt = xt + task.k * tile;
  auto* begins = reinterpret_cast<std::int32_t*>(yt + task.rows * tile);
  find_blocks(task, width, blocks, begins);
  for (std::int64_t i = task.row_begin[0]; i < task.row_begin[task.rows]; ++i) task.out[i] = 0.0f;

  for (std::int64_t t = 0; t < task.tokens; t += tile) {
    transpose_tile<Isa>(task.x + t * task.ldx, task.ldx, task.tokens - t, task.k, xt);
    transpose_tile<Isa>(task.y + t * task.ldy, task.ldy, task.tokens - t, task.rows, yt);
    for (std::int64_t block = 0; block < blocks; ++block)
      for (std::int64_t n = 0; n < task.rows; ++n) {
        std::int64_t i = begins[block * task.rows + n];
        const std::int64_t end = begins[(block + 1) * task.rows + n];
        Vector row[Isa::vectors];
#pragma GCC unroll 16
        for (int v = 0; v < Isa::vectors; ++v) row[v] = load(yt + n * tile + v * kLanes);
        for (; i + 4 <= end; i += 4) multiply_four<Isa>(row, xt, task.column + i, 4, task.out + i);
        if (i < end) multiply_four<Isa>(row, xt, task.column + i, end - i, task.out + i);
      }
  }
}

}  // namespace
}  // namespace aerogel
