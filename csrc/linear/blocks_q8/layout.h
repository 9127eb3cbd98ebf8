// blocks_q8: int8 weights pruned in blocks of 1x4: four aligned columns of a row, 4j .. 4j + 3, are kept or not stored at all.
// Any pattern is correct (a block stores its zeros), but only block patterns are small and fast.
//
//     one block, 6 bytes:   column | u16, 8 * (j - first block of the chunk)
//                           weight | w0 w1 w2 w3 | signed codes of columns 4j .. 4j + 3
//
//     row n of a chunk:     blocks begin[list] .. begin[list + 1], by column; list = chunk * N + n
//
// A kernel has tokens on its lanes: a tile of tokens is transposed once so that one block is one broadcast of its weights
// times registers of [tokens][4] activations.
//
//     tile      subtile 0: tokens 0..15                             subtile 1: tokens 16..31   ..
//               | block 0: t0 k0..3 | t1 k0..3 | .. t15 k0..3 | block 1: .. |
//
// Columns are stored times 8 because x86 scales an index by at most 8, and a block of a subtile is 64 = 8 * 8 bytes long. K is
// cut into chunks, so that the tile's part stays in L1.
//
// AVX-512 takes four rows at a time, so that one load brings four columns and sixteen sums hide each other's latency:
//
//     four blocks, 24 bytes:   column | 4 x u16, 32 * (j - first block of the chunk), of four rows
//                              weight | w0 w1 w2 w3 | w0 w1 w2 w3 | w0 w1 w2 w3 | w0 w1 w2 w3 |
//
//     set s (32 rows, the unit), sorted by their number of blocks, most first:
//
//                place 0..3                      place 4..7                 ..   place 28..31
//       chunk 0  | four blocks | four blocks ..  | four blocks | ..         ..   |           begin[(s * chunks + chunk) * 8 + place / 4]
//       chunk 1  | ..
//
// Each list is as long as its longest row; free blocks have column 0 and weight 0 (1.5 to 7 % of random 1x4 blocks). Row r of a
// set is at place[32 s + r]. Its tile is one array, [block][register][64], whose columns a kernel with fewer than four registers
// of 16 tokens scales down. It multiplies q + 128, unsigned, so a sum begins at -128 * sum(w).
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/linear.h"

namespace aerogel {

struct Block {
  std::uint16_t column;
  std::int8_t weight[4];
};

struct BlocksView {
  std::int64_t n, k;
  std::int64_t chunk, chunks;  // columns of each chunk but the last (a multiple of 64), and the number of chunks
  const std::uint32_t* begin;  // [chunks * N + 1]
  const Block* blocks;
  const float* scale;  // [N rounded up to 8]; 0 beyond N
};

struct FourBlocks {
  std::uint16_t column[4];
  std::int8_t weight[4][4];
};

struct FourBlocksView {
  std::int64_t n, k;
  std::int64_t chunk, chunks;  // as above
  const std::uint32_t* begin;  // [sets * chunks * 8 + 1]
  const FourBlocks* blocks;
  const std::uint8_t* place;   // [sets * 32]: a permutation of 0..31 in each set, rows beyond N too
  const std::int32_t* start;   // [sets * 32], by place: -128 * sum of the row's weights
  const float* scale;          // [sets * 32], by row; 0 beyond N
};

// A unit is 8 rows; a set of them on AVX-512.
constexpr std::int64_t kBlocksRows = 8;
constexpr std::int64_t kFourBlocksRows = 32;

static inline std::int64_t blocks_padded_k(std::int64_t k) { return (k + 63) / 64 * 64; }

// Scratch: the tile of a kernel, and the sums of a set of rows; on AVX-512 of up to so many sets.
constexpr std::int64_t kFourBlocksSets = 2;
constexpr std::int64_t kBlocksSetRows = 64;
constexpr std::int64_t kBlocksAvx2Tokens = 32;
constexpr std::int64_t kFourBlocksTokens = 64;
static inline std::size_t blocks_scratch(std::int64_t k, std::int64_t tokens, std::int64_t rows) {
  return static_cast<std::size_t>(blocks_padded_k(k) * tokens + rows * tokens * 4);
}

}  // namespace aerogel
