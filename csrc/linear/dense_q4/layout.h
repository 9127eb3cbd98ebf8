// dense_q4: every weight stored as four bits, decoded to the int8 code that dense_q8 would hold, so that y is bit-identical:
//
//     code[n, k] = (levels[index[n, k]] - zero[n, k / group]) * multiplier[n, k / group]          in [-127, 127]
//
// The panels are those of dense_q8 (R rows, G columns of a row side by side), with two weights in a byte: a *step* is G columns
// of R rows, and its second half stands above its first.
//
//     step of dense_q8   | w 0 | w 1 | ... | w H-1 | w H | ... | w 2H-1 |        2 H = R * G codes, row by row
//     here               | w 0 + 16 w H | w 1 + 16 w H+1 | ... | w H-1 + 16 w 2H-1 |      H bytes: one register
//
//     index       | panel 0: k_padded / G steps | panel 1 | ...          k_padded is K rounded up to 32
//     multiplier  | panel 0: group 0: R bytes | group 1: R bytes | ... | panel 1 | ...      absent if all are 1
//     zero        the same                                               absent if all are equal: levels have it taken off
//     levels      | panel 0: 16 | panel 1: 16 | ...                      a stack of matrices may have several
//
//                R   G   a step is
//     scalar     4  16   32 bytes
//     neon       4  16   32 bytes: two registers, rows 0 and 2, rows 1 and 3
//     avx2      16   4   32 bytes: rows 0..7 and rows 8..15
//     avx512    32   4   64 bytes: rows 0..15 and rows 16..31
//
// avx2 has two kernels. Where levels rise one by one and differ from zeros by at most 16, as those of integers do, the index
// itself is multiplied (`linear`); other levels are looked up, and then the columns of a step stand in the order 0 2 1 3, so that
// even and odd bytes are neighbours.
//
// Rows beyond N and columns beyond K have some index: x is 0 there, or y is not written. A panel is a unit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/dense_q8/layout.h"

namespace aerogel {

struct DenseQ4View {
  std::int64_t n;
  std::int64_t k;
  std::int64_t k_padded;           // multiple of 32
  std::int64_t group;              // columns, a multiple of 32
  std::int64_t groups;             // of a row
  const std::uint8_t* index;       // drawn above; 64-byte aligned
  const std::uint8_t* multiplier;  // [units][groups][R], or null
  const std::int8_t* zero;         // [units][groups][R], or null
  const std::int8_t* levels;       // [units][16], 16-byte aligned
  const float* scale;              // [N rounded up to R], 0 beyond N
  bool linear;                     // avx2: levels[i] - zero = first + i - zero, at most 16 in magnitude
  std::int32_t first;
};

constexpr DenseQ8Panel kDenseQ4Scalar{4, 16, 0};
constexpr DenseQ8Panel kDenseQ4Neon{4, 16, 0};
constexpr DenseQ8Panel kDenseQ4Avx2{16, 4, 0};
constexpr DenseQ8Panel kDenseQ4Avx512{32, 4, 0};

// Columns whose products a kernel sums before it multiplies them.
constexpr std::int64_t kDenseQ4Block = 32;

// As DenseQ8Tiling, for the linear kernel of avx2; scratch:
//     x [chunks, tokens, stride] int8 | a chunk's indices, a byte each | sums [tokens, 16] int32 | corrections [tokens, blocks] int32
constexpr DenseQ8Tiling kDenseQ4TilingAvx2{6, 512, 512 + 64, 1, 16 * 512, 16, 24};
// The same for its lookup kernel, which is that of dense_q8 with weights made as they are read.
constexpr DenseQ8Tiling kDenseQ4TilingLookup{6, 512, 512 + 32, 2, 16 * 512 * 2, 16, 48};

}  // namespace aerogel
