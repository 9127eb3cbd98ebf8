// dense_q4: every weight stored as four bits. They stand for exactly the int8 codes that dense_q8 would hold, so y is the same bit
// for bit (what linear and table are: linear/source_q4.h):
//
//     linear    code[n, k] = index[n, k] * multiplier[n, k / group] + offset[n, k / group]
//     table     code[n, k] = levels[index[n, k]]
//
// The panels are those of dense_q8 (R rows, G columns of a row side by side), with two weights in a byte. G columns of R rows are
// a *step*, and its second half stands above its first:
//
//     step, an index each      | i 0          | i 1            | ... | i H-1           | i H | ... | i 2H-1 |     2 H = R * G
//     step, as it is stored    | i 0 + 16 i H | i 1 + 16 i H+1 | ... | i H-1 + 16 i 2H-1 |                        H bytes
//
//     index       | panel 0: k_padded / G steps | panel 1 | ...        k_padded is K rounded up to 32
//     multiplier  | panel 0, group 0: R bytes | panel 0, group 1 | ... | panel 1, group 0 | ...    absent if all are 1
//     offset      | panel 0, group 0: R bytes | ...                       absent if all are -same_zero * multiplier of their group
//     levels      | panel 0: 16 bytes | panel 1 | ...                  0 .. 15 if linear
//
//                R   G   a step is
//     scalar     4  16   32 bytes
//     neon       4  16   32 bytes: two registers, rows 0 and 2, rows 1 and 3
//     avx2      16   4   32 bytes: one register, rows 0 .. 7 and rows 8 .. 15
//     avx512    32   4   64 bytes: one register, rows 0 .. 15 and rows 16 .. 31
//
// For a table on avx2 the four columns of a row stand in the order 0 2 1 3: there even and odd bytes become registers of int16, so
// that the columns of each are neighbours.
//
// Rows beyond N and columns beyond K have index 0: such y is not written, such x is 0. A panel is a unit.
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
  const std::int8_t* offset;       // [units][groups][R], or null
  const std::int8_t* levels;       // [units][16]
  const float* scale;              // [N rounded up to R], 0 beyond N
  bool linear;
  std::int8_t same_zero;           // 0 if a table, or if there are offsets
};

// R and G; nothing is added.
constexpr DenseQ8Panel kDenseQ4Scalar{4, 16, 0};
constexpr DenseQ8Panel kDenseQ4Neon{4, 16, 0};
constexpr DenseQ8Panel kDenseQ4Avx2{16, 4, 0};
constexpr DenseQ8Panel kDenseQ4Avx512{32, 4, 0};

// Groups are whole blocks of columns.
constexpr std::int64_t kQ4Block = 32;

// Tiles, chunks and scratch of the kernels that multiply indices, as DenseQ8Tiling; panel_bytes is a chunk with an index or a level
// in each byte:
//
//     scratch:  x [chunks, tokens, stride] | the panel's chunk | sums [tokens, R] int32 | sums of x [tokens, k_padded / 32] int32
//
// On avx512 a chunk is whole groups, or parts of 128 columns of longer ones.
constexpr DenseQ8Tiling kDenseQ4TilingAvx2{6, 512, 512 + 64, 1, 16 * 512, 16, 24};
constexpr DenseQ8Tiling kDenseQ4TilingAvx512{12, 768, 768 + 64, 1, 32 * 768, 32, 24};
// Of the kernels that look levels up: those of dense_q8, with room for the chunk on avx512 too.
constexpr DenseQ8Tiling kDenseQ4TilingTableAvx2{6, 512, 512 + 32, 2, 16 * 512 * 2, 16, 24};
constexpr DenseQ8Tiling kDenseQ4TilingTableAvx512{12, 768, 768 + 64, 1, 32 * 768, 32 + 1, 24};

static inline std::size_t dense_q4_scratch_bytes(const DenseQ8Tiling& t, std::int64_t k_padded, std::int64_t m) {
  const std::int64_t block = dense_q8_block(t, k_padded);
  return dense_q8_scratch_bytes(t, k_padded, m) + static_cast<std::size_t>((m < block ? m : block) * (k_padded / kQ4Block) * 4);
}

}  // namespace aerogel
