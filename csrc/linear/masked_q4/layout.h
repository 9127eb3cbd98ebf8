// masked_q4: sparse 4-bit weights, any pattern of nonzeros, as a bit mask and the indices of the nonzeros: 1/8 byte a weight and
// 1/2 byte a nonzero. The codes are those of dense_q4 (dense_q4/layout.h), 0 where the mask has no bit.
//
// The mask has a bit for each index of the panels of dense_q4, in their order before two share a byte (R rows, G columns of a row
// side by side; R and G are those of dense_q4 for the same instruction set):
//
//     panel p      | i i 0 i 0 0 0 i  0 0 i 0 ...  |  64 indices  |  ...     R * k_padded
//                    b0             b7
//     mask         | 1 1 0 1 0 0 0 1  0 0 1 0 ...  |  next u64    |  ...     bit b of word j: index 64 j + b is not of a zero
//     values       | i i i i i ...                                           those, in order, the first in the low half of a byte
//
//     mask         | panel 0: R * k_padded / 64 words | panel 1 | ...        k_padded is K rounded up to 32
//     values       | panel 0, from a byte on | panel 1 | ... | 64 bytes that a load may touch
//     panel_begin[p] is the first value of panel p, an even number; one more ends the last.
//
// Of a table a value is the index. Of integers it is index ^ zero (bit by bit, zero of its group), so that what a kernel fills in
// where no value is, 0, becomes the index of 0 by one more ^ zero.
//
// multiplier, zero and levels are those of dense_q4, and so is the order 0 2 1 3 of columns for a table on avx2. Rows beyond N and
// columns beyond K have no bits. A panel is a unit; a call streams both arrays in order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/dense_q4/layout.h"

namespace aerogel {

struct MaskedQ4View {
  std::int64_t n;
  std::int64_t k;
  std::int64_t k_padded;             // multiple of 32
  std::int64_t group;                // columns, a multiple of 32
  std::int64_t groups;               // of a row
  const std::uint64_t* mask;         // [units][R * k_padded / 64], 64-byte aligned
  const std::uint8_t* values;        // two in a byte; 64 bytes behind the last are readable
  const std::int64_t* panel_begin;   // [units + 1]
  const std::uint8_t* multiplier;    // [units][groups][R], or null
  const std::int8_t* zero;           // [units][groups][R], 0 .. 15, the index of 0, or null
  const std::int8_t* offset;         // [units][groups][R], -zero * multiplier, or null
  const std::int8_t* levels;         // [units][16]
  const float* scale;                // [N rounded up to R], 0 beyond N
  bool linear;
  std::int8_t same_zero;             // 0 if a table
};

constexpr std::int64_t kMaskedQ4Slack = 64;

// Scratch of the kernels of x86: that of the dense kernel that runs what was expanded, with tilings of more tokens for tables, as
// every block of them expands the panels again; then a chunk of a panel, one index or level in a byte (not for avx512, whose dense
// scratch has that room), then its values, one in a byte, with slack. Neon: a panel as int8 codes, and its values.
constexpr DenseQ8Tiling kMaskedQ4TilingTableAvx2{6, 512, 512 + 32, 2, 16 * 512 * 2, 16, 72};
constexpr DenseQ8Tiling kMaskedQ4TilingTableAvx512{12, 768, 768 + 64, 1, 32 * 768, 32 + 1, 72};
constexpr std::int64_t kMaskedQ4RoomAvx2 = 16 * 512;
constexpr std::int64_t kMaskedQ4RoomAvx512 = 32 * 768;
constexpr std::int64_t kMaskedQ4RoomSlack = 128;

// Where a chunk, or its values, stand in scratch.
static inline std::size_t masked_q4_room_avx2(bool linear, std::int64_t k_padded, std::int64_t m) {
  const std::size_t dense = linear ? dense_q4_scratch_bytes(kDenseQ4TilingAvx2, k_padded, m) : dense_q8_scratch_bytes(kMaskedQ4TilingTableAvx2, k_padded, m);
  return (dense + 63) / 64 * 64;
}
static inline std::size_t masked_q4_room_avx512(bool linear, std::int64_t k_padded, std::int64_t m) {
  const std::size_t dense = linear ? dense_q4_scratch_bytes(kDenseQ4TilingAvx512, k_padded, m) : dense_q8_scratch_bytes(kMaskedQ4TilingTableAvx512, k_padded, m);
  return (dense + 63) / 64 * 64;
}

}  // namespace aerogel
