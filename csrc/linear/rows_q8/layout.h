// rows_q8: sparse int8 weights where R = 4 or 2 neighbouring output rows, a *set*, share a mask: blocks of 4x1 or 2x1 are kept or
// not stored at all. A kernel has tokens on its lanes, and what it gathers for four columns serves all rows of the set. Any pattern
// is correct (a block stores its zeros), but only such patterns are small and fast.
//
//     one quad, 8 + 4 R bytes:   column | c0 c1 c2 c3 | u16, 8 * (column - chunk start)
//                                weight | w0 w1 w2 w3 | signed codes of the set's first row
//                                         | .. of the second | ..
//
//     set s of a chunk:          quads begin[list] .. begin[list + 1]; list = chunk * sets + s
//
// A quad can take any four columns of a set, in any order, so the packer pairs slots (0,1) and (2,3) such that the unsigned x signed
// 16-bit multiply-add of activations q + 128 in [1, 255] saturates for none of the rows: weights of opposite sign, or
// |w| + |w'| <= 128 (255 * 128 = 32640). A column that no other fits stands beside a free slot, which has weights 0 and a column of
// the set. What q + 128 adds to a sum, 128 * sum(w), is taken off at the end.
//
// Columns are stored times 8 because x86 scales an index by at most 8, and a column of a transposed tile is 4 * 8 bytes long. K is
// cut into chunks, so that the tile's part stays in L1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/linear.h"

namespace aerogel {

struct RowsView {
  std::int64_t n, k;
  std::int64_t rows;           // R
  std::int64_t sets;           // ceil(N / R)
  std::int64_t chunk, chunks;  // columns of each chunk but the last (a multiple of 64), and the number of chunks
  const std::uint32_t* begin;  // [chunks * sets + 1]
  const std::uint8_t* quads;
  const std::int32_t* offset;  // [N rounded up to 8]: 128 * sum of the row's weights; 0 beyond N
  const float* scale;          // [N rounded up to 8]; 0 beyond N
};

// A unit is 8 rows.
constexpr std::int64_t kRowsUnit = 8;

static inline std::int64_t rows_quad_bytes(std::int64_t rows) { return 8 + 4 * rows; }
static inline std::int64_t rows_padded_k(std::int64_t k) { return (k + 63) / 64 * 64; }

// AVX2: a transposed tile of up to 32 tokens, and the sums of some units. NEON with dot products takes 16 tokens, and half of it.
constexpr std::int64_t kRowsTokens = 32;
constexpr std::int64_t kRowsSums = 64;
static inline std::size_t rows_scratch(std::int64_t k) {
  return static_cast<std::size_t>(rows_padded_k(k) * kRowsTokens + kRowsSums * kRowsTokens * 4);
}

}  // namespace aerogel
