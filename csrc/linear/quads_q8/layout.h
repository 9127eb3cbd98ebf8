// quads_q8: sparse int8 weights, any pattern of nonzeros, one row after the other: a kernel has tokens on its lanes.
//
//     one quad, 12 bytes:   column | c0 c1 c2 c3 | u16, 8 * (column - chunk start)
//                           weight | w0 w1 w2 w3 | signed codes
//
//     a row in a chunk:     begin[list]            light[list]                        begin[list + 1]
//                             | quad quad | quad quad | quad | quad | .. | quad         list = chunk * N + place
//                             light pairs, two by two | single quads
//
// Inside a set of 64 rows lists are sorted by their length, and row[list] says whose each is: a CPU foresees the end of a list that is
// as long as the one before, and eight neighbours each have as many light pairs. Unsorted, a wrong guess or two a row cost 20 % of
// the time (Zen 3, 384x1536 and 1536x384, 80 %); a CPU that runs the same small matrix again and again learns all ends, so this
// does not show there.
//
// A free slot has weight 0 and a column of its row. Quads can take any four nonzeros of a row, so the packer chooses them
// such that the unsigned x signed 16-bit multiply-add of activations q + 128 in [1, 255] never saturates:
//
//     slots (0,1) and (2,3) of a quad   weights of opposite sign, or |w| + |w'| <= 128       255 * 128 = 32640
//     these slots of a light pair of    the positive weights of the four have a sum of at
//     quads, four weights together      most 128, and so have the negative ones
//
// A row's largest weights of one sign are paired with those of the other, its smallest ones make light pairs, whose
// products are added in 16 bits. What q + 128 adds to a sum, 128 * sum(w), is taken off at the end.
//
// Columns are stored times 8 because x86 scales an index by at most 8, and a column of a transposed tile is 4 * 8
// bytes long. K is cut into chunks, so that the tile's part stays in L1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/linear.h"

namespace aerogel {

struct Quad {
  std::uint16_t column[4];
  std::int8_t weight[4];
};

struct QuadsView {
  std::int64_t n, k;
  std::int64_t chunk, chunks;  // columns of each chunk but the last (a multiple of 64), and the number of chunks
  const std::uint32_t* begin;  // [chunks * N + 1]
  const std::uint32_t* light;  // [chunks * N]: end of the light pairs
  const std::uint8_t* row;     // [chunks * N]: of the set
  const Quad* quads;
  const std::int32_t* offset;  // [N rounded up to 8]: 128 * sum of the row's weights; 0 beyond N
  const float* scale;          // [N rounded up to 8]; 0 beyond N
};

// A unit is 8 rows. A set is rows whose lists are sorted, and whose sums wait to be written together.
constexpr std::int64_t kQuadsRows = 8;
constexpr std::int64_t kQuadsSet = 64;

static inline std::int64_t quads_padded_k(std::int64_t k) { return (k + 63) / 64 * 64; }

// AVX2: a transposed tile of up to 32 tokens, and the sums of a set of rows.
constexpr std::int64_t kQuadsAvx2Tokens = 32;
static inline std::size_t quads_scratch_avx2(std::int64_t k) {
  return static_cast<std::size_t>(quads_padded_k(k) * kQuadsAvx2Tokens + kQuadsSet * kQuadsAvx2Tokens * 4);
}

}  // namespace aerogel
