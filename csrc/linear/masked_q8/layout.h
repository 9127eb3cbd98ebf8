// masked_q8: sparse int8 weights, any pattern of nonzeros, as a bit mask and the nonzeros behind it. The smallest form in memory,
// 1/8 byte a weight and 1 byte a nonzero: for few tokens, when weights stream from memory, and for any number, when one small
// copy must serve all.
//
// The weights stand in the order of dense_q8 for the same instruction set (panels of R rows, G columns of a row side by side:
// R and G are those of dense_q8/layout.h), with the zeros left out:
//
//     dense panel p      | w w 0 w 0 0 0 w  0 0 w 0 ...  |  64 bytes  |  ...     R * k_padded bytes
//                          b0             b7
//     mask               | 1 1 0 1 0 0 0 1  0 0 1 0 ...  |  next u64  |  ...     bit b of word j: byte 64 j + b is not zero
//     values             | w w w w w ...                                         those bytes, in order (avx2: see below)
//
//     mask   | panel 0: R * k_padded / 64 words | panel 1 | ...
//     values | 64 bytes that a load may touch | panel 0 | panel 1 | ... | 64 more
//     panel_begin[p] is the first value of panel p; one more ends the last.
//
// So a word of the mask is what a kernel multiplies at once, and a panel can be expanded into exactly what the dense kernel reads:
//
//                R   G   a word is           values
//     scalar     4  16   4 rows x 16 k       w
//     neon       4  16   4 rows x 16 k       w
//     avx2      16   2   16 rows x 4 k       w
//     avx512    32   4   16 rows x 4 k       w + 128, as there; a byte without a value is 128
//
// The order of values is that of the bits, but for avx2, where the last 16 of every 32 bits have theirs in reverse:
//
//     bits 32 i ..       | 0 .. 15: up | 16 .. 31: down |         values of them | first ... last | last ... first |
//
// so that the first half can be found from where the 32 begin and the second from where they end, with one count of bits.
//
// Rows beyond N and columns beyond K have no bits. A panel is a unit; a call streams both arrays in order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/dense_q8/layout.h"

namespace aerogel {

struct MaskedQ8View {
  std::int64_t n;
  std::int64_t k;
  std::int64_t k_padded;             // multiple of 16
  const std::uint64_t* mask;         // [units][R * k_padded / 64], 64-byte aligned
  const std::int8_t* values;         // [nonzeros], 64 bytes to either side are readable
  const std::int64_t* panel_begin;   // [units + 1]
  const float* scale;                // [N rounded up to R], 0 beyond N
  const std::uint8_t* most;          // [units]: the most values that a word of the panel has
};

// This many bytes before the first and behind the last value may be read.
constexpr std::int64_t kMaskedQ8Slack = 64;

// The dense tilings, with room for the expanded chunk of a panel in scratch and blocks of more tokens, as every block expands the
// panels again.
constexpr DenseQ8Tiling kMaskedQ8TilingAvx2{6, 512, 512 + 32, 2, 16 * 512 * 2, 16, 72};
constexpr DenseQ8Tiling kMaskedQ8TilingAvx512{12, 768, 768 + 64, 1, 32 * 768, 32 + 1, 72};

}  // namespace aerogel
