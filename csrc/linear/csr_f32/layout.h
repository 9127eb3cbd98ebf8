// csr_f32: y[M,N] = x[M,K] . w[N,K]^T + b[N], float, only the nonzeros of w stored, any pattern.
//
// Compressed sparse rows, the same for every instruction set. The columns of a row ascend, each at most once. Columns are
// 16-bit where K <= 65536, which is nearly always, else 32-bit:
//
//     row_begin   | 0 | begin of row 1 | ... | nnz |          [N + 1]
//     values      | row 0: v v v v | row 1: v v | ...         [nnz]
//     columns     | row 0: c c c c | row 1: c c | ...         [nnz], in columns16 or in columns32, the other is null
//
// A row is also cut at every chunk-th column, so that a kernel may run many rows over a few chunks of x that fit L1:
//
//     chunk_end   | row 0: e0 e1 ... | row 1: e0 e1 ... |     [N][chunks]: nonzeros of row n left of column (c + 1) * chunk;
//                                                             the last one is the row's count
//
// chunk is kChunk, or more where that would make over kMaxChunks of them: very wide matrices are sparse enough for the cuts
// to outweigh the nonzeros.
//
// Vector kernels keep tokens on the lanes. They first copy a tile of T tokens of x transposed into scratch:
//
//     xt     token 0        1      ...   T-1
//     k = 0 | x[0][0]    x[1][0] ... x[T-1][0] |     so that one nonzero w[n][k] is: broadcast it, multiply by row k of xt,
//     k = 1 | x[0][1]    x[1][1] ... x[T-1][1] |     add to the T sums of row n
//       ... |                                  |
//
//     sums   kRowBlock rows of T: [row][token], transposed into y[token][row] when done
//
// A unit is kUnit rows. Nothing is padded: a nonzero costs what it costs, an empty row nearly nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel::csr_f32 {

constexpr std::int64_t kUnit = 16;
constexpr std::int64_t kChunk = 128;
constexpr std::int64_t kMaxChunks = 64;
constexpr std::int64_t kRowBlock = 64;  // rows whose sums stand in scratch together, a multiple of kUnit
constexpr std::int64_t kMaxTile = 64;   // the widest T of any kernel

struct View {
  const std::int64_t* row_begin;
  const std::uint32_t* chunk_end;
  const float* values;
  const std::uint16_t* columns16;
  const std::uint32_t* columns32;
  std::int64_t n, k, chunk, chunks;
};

}  // namespace aerogel::csr_f32
