// The walk over tiles of tokens, units of rows and chunks of columns, which the kernels of rows_q8 with tokens on their lanes share.
// A kernel file includes it behind what it is made of:
//
//     Byte               of a transposed tile [padded K][kTokens]
//     kTokens, kGroup    of a tile, and how many of them, and rows, are added and written at a time
//     transpose_tile     makes the tile
//     add_groups<R>      sums[R][kTokens] = or += the products of a set's quads
//     write_rows         the sums of kGroup rows, turned round
#pragma once

#include "linear/rows_q8/layout.h"

namespace aerogel {
namespace {

// Tokens [t, t_end), a tile of them at most, of all units of the task.
template <int R>
void run_tile(const LinearTask& task, const RowsView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = rows_padded_k(v.k), groups = (t_end - t + kGroup - 1) / kGroup;
  auto* tile = static_cast<Byte*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * kTokens);
  transpose_tile(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, padded_k, tile);
  const std::int64_t row_end = task.unit_end * kRowsUnit < v.n ? task.unit_end * kRowsUnit : v.n;
  // With several chunks, one is used for some units before the next takes its place in L1.
  const std::int64_t step = v.chunks == 1 ? kRowsUnit : kRowsSums;
  for (std::int64_t n = task.unit_begin * kRowsUnit; n < row_end; n += step) {
    const std::int64_t rows = row_end - n < step ? row_end - n : step;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::uint32_t* begin = v.begin + chunk * v.sets + n / R;
      for (std::int64_t r = 0; r < rows; r += R, ++begin)
        add_groups<R>(groups, tile + chunk * v.chunk * kTokens, v.quads + std::size_t{begin[0]} * (8 + 4 * R),
                      v.quads + std::size_t{begin[1]} * (8 + 4 * R), chunk == 0, sums + r * kTokens);
    }
    // Behind the last row stand leftovers, which go nowhere.
    for (std::int64_t r = 0; r < rows; r += kGroup) write_rows(task, v, sums + r * kTokens, n + r, t, t_end);
  }
}

void run_rows(const LinearTask& task) {
  const auto& v = *static_cast<const RowsView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += kTokens) {
    const std::int64_t end = task.m - t < kTokens ? task.m : t + kTokens;
    if (v.rows == 4)
      run_tile<4>(task, v, t, end);
    else
      run_tile<2>(task, v, t, end);
  }
}

}  // namespace
}  // namespace aerogel
