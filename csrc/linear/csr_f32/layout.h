// csr_f32: y[M,N] = x[M,K] . w[N,K]^T + b[N], float, only the nonzeros of w stored, any pattern.
//
// Compressed sparse rows, the same for every instruction set. Columns of a row ascend, each at most once. They are 16-bit
// where K < 65536, which is nearly always, else 32-bit:
//
//     row_begin   | 0 | begin of row 1 | ... | total |           [N + 1], multiples of kStep
//     values      | v v v v  v v 0 0 | v v v v | v 0 0 0 | ...   [total]
//     columns     | c c c c  c c c c | c c c c | c c c c | ...   [total], in columns16 or in columns32, the other is null
//                   row 0              row 1     row 2
//
// A row is padded to a multiple of kStep with zero values at column K: a loop over a row then has no tail, whose length the CPU
// would have to guess row after row. x has no column K: kernels read a copy of x in scratch that has one, of zeros, since 0 times
// an element of x itself would be NaN where that is infinite. An empty row stays empty.
//
// Vector kernels keep tokens on the lanes. They first copy a tile of T tokens of x transposed into scratch:
//
//     xt     token 0        1      ...   T-1
//     k = 0 | x[0][0]    x[1][0] ... x[T-1][0] |     so that one nonzero w[n][k] is: broadcast it, multiply by row k of xt,
//     k = 1 | x[0][1]    x[1][1] ... x[T-1][1] |     add to the T sums of row n
//       ... |                                  |
//     k = K |    0          0    ...      0    |
//
//     sums   kUnit rows of T: [row][token], transposed into y[token][row] when done
//
// A unit is kUnit rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel::csr_f32 {

constexpr std::int64_t kUnit = 16;
constexpr std::int64_t kStep = 4;
constexpr std::int64_t kMaxTile = 32;  // the widest T of any kernel
constexpr std::int64_t kMost16 = 65535;  // the largest K of 16-bit columns, which have to name it too

struct View {
  const std::int64_t* row_begin;
  const float* values;
  const std::uint16_t* columns16;
  const std::uint32_t* columns32;
  std::int64_t n, k;
};

}  // namespace aerogel::csr_f32
