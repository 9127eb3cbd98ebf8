// gathered_q8: sparse int8 weights, any pattern of nonzeros. Two forms of the same nonzeros:
//
// 1. Vectors ("gathered quads"): output rows on the int32 lanes, few tokens or many. Always present.
//
//      one vector = R rows x 4 slots (R = 16 for AVX-512, 8 for AVX2 and AVX-VNNI, 4 for NEON), all slots inside one window of W columns:
//
//                 row 0          row 1                  row R-1
//      index  | i0 i1 i2 i3 | i0 i1 i2 i3 |  ...  | i0 i1 i2 i3 |   column - window start, 0 <= i < W, bytes
//      value  | v0 v1 v2 v3 | v0 v1 v2 v3 |  ...  | v0 v1 v2 v3 |   signed codes; a free slot is index 0, value 0
//      window   u16, the window's first column is chunk start + window * step
//
//    A byte shuffle of the window by `index` fetches, for every row, the activations its four values need.
//    Windows slide: each starts at the first nonzero left in any row of the group, rounded down to the step.
//
//    Rows are sorted by their number of nonzeros inside a *block* (32 or 64 rows, the unit of LinearTask), because
//    a group is as long as its longest row; groups of R sorted rows follow each other. K is cut into *chunks*, so
//    that the windows of a token tile stay in L1:
//
//      vectors:  block 0 [ chunk 0 [ group 0 | group 1 .. ] chunk 1 [ group 0 | .. ] ]  block 1 [ .. ]
//      segment[(block * chunks + chunk) * groups_per_block + group] is the first vector of that part; one more ends it.
//
//    safe_pairs: slots (0,1) and (2,3) of a row never hold two weights of the same sign with |w| + |w'| > 128, so
//    that an unsigned x saturating 16-bit multiply-add of activations q + 128 in [1, 255] cannot saturate:
//    255 * 128 = 32640. Weights of opposite sign are always safe.
//
// 2. Octets and quads: tokens on the lanes, one row after the other. Only made for kernels that ask for them (AVX2).
//
//      one quad:   column | c0 c1 c2 c3 | u16, 8 * (column - chunk start)
//                  weight | w0 w1 w2 w3 | |w|, bytes
//                  sign   |  s01   s23  | i16, +1 or -1: the sign of both weights of a pair
//
//      one octet:  column | c0 .. c7 |    weight | w0 w1 w0 w1 | w2 w3 w2 w3 | w4 w5 w4 w5 | w6 w7 w6 w7 |
//                  sign   | s0123  s4567 |
//
//      row n of a chunk: octets octet_begin[chunk * N + n] .. of the same place + 1, then the quads of quad_begin.
//      A free slot has weight 0 and a column of its row; octets have none.
//
//    With the sign apart, |w| is the unsigned factor of the 16-bit multiply-add and x, as it is, the signed one:
//    2 * 127 * 127 = 32258 never saturates, and no offset has to be taken off. The four weights of half an octet have a
//    sum of magnitudes of at most 258, so that two such pairs can be added in 16 bits: 127 * 258 = 32766. A row's
//    smallest weights are in octets, the rest in quads. Columns are stored times 8, because x86 scales an index by at
//    most 8 and a column of a transposed tile is 8 * 4 or 8 * 8 bytes long.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/linear.h"

namespace aerogel {

struct GatheredGeometry {
  std::int32_t rows;     // R
  std::int32_t window;   // W
  std::int32_t step;     // window starts are multiples of it
  std::int32_t chunk;    // at most this many columns in a chunk
  bool safe_pairs;
  bool quads;            // make form 2 as well
};

struct GatheredQuad {
  std::uint16_t column[4];
  std::uint8_t weight[4];
  std::int16_t sign[2];
};

struct GatheredOctet {
  std::uint16_t column[8];
  std::uint8_t weight[16];
  std::int16_t sign[2];
};

struct GatheredView {
  GatheredGeometry geometry;  // chunk: the columns of each chunk but the last, a multiple of 64
  std::int64_t n, k;
  std::int64_t block;             // rows in a unit; the last unit may have fewer
  std::int64_t groups_per_block;  // block / R
  std::int64_t chunks;

  const std::int64_t* segment;
  const std::uint16_t* window;    // [vectors]
  const std::uint8_t* vectors;    // [vectors][ index 4R | value 4R ], 64-byte aligned
  const std::uint8_t* row_at;     // [units * block]: sorted position -> row of the block. A permutation of 0..block-1
  const std::uint8_t* position;   // [units * block]: row of the block -> sorted position, the inverse
  const std::int32_t* offset;     // [units * block]: 128 * sum of the row's weights; 0 beyond N
  const float* scale;             // [units * block]; 0 beyond N

  std::int64_t quad_chunk, quad_chunks;  // columns of a chunk of form 2 (<= 8192), their number
  const std::int64_t* octet_begin;
  const GatheredOctet* octets;
  const std::int64_t* quad_begin;
  const GatheredQuad* quads;
  std::int64_t few_tokens;               // up to this many tokens form 1 is the faster one
};

// Scratch of each kernel, in bytes (see the kernel for what it holds).
static inline std::int64_t gathered_padded_k(std::int64_t k) { return (k + 63) / 64 * 64; }

// AVX2: a transposed tile of 64 tokens and the sums of 8 rows; or rows of u8 activations and the sums of one unit.
constexpr std::int64_t kGatheredAvx2Tokens = 64;  // widest tile of form 2
constexpr std::int64_t kGatheredAvx2Few = 32;     // most tokens that form 1 is used for
static inline std::int64_t gathered_avx2_stride(std::int64_t k) {
  return gathered_padded_k(k) + 64;  // an unaligned window may end 15 columns behind K; spreads tokens over L1 sets
}
static inline std::size_t gathered_scratch_avx2(std::int64_t k, std::int64_t block) {
  const std::int64_t wide = gathered_padded_k(k) * kGatheredAvx2Tokens + 8 * kGatheredAvx2Tokens * 4;
  const std::int64_t few = gathered_avx2_stride(k) * kGatheredAvx2Few + block * 8 * 4;
  return static_cast<std::size_t>(wide > few ? wide : few);
}

// AVX-512: the windows of one chunk for 16 tokens, and the sums of a set of units for 16 tokens.
constexpr std::int64_t kGatheredAvx512Tokens = 16;
constexpr std::int64_t kGatheredAvx512SetRows = 512;
static inline std::size_t gathered_scratch_avx512(std::int64_t chunk) {
  return static_cast<std::size_t>(chunk / 32 * kGatheredAvx512Tokens * 64 + kGatheredAvx512SetRows * kGatheredAvx512Tokens * 4);
}

// AVX-VNNI: activations + 128 of a block of tokens, [chunk][token][stride], and the sums of one unit. The stride is a constant,
// so that the tokens of a tile are displacements of one address, and a line more than a chunk: spreads tokens over L1 sets,
// and a window may end 15 columns behind its chunk.
constexpr std::int64_t kGatheredAvxVnniTokens = 64;
constexpr std::int64_t kGatheredAvxVnniStride = 2048 + 64;
static inline std::size_t gathered_scratch_avxvnni(std::int64_t chunks, std::int64_t block) {
  return static_cast<std::size_t>(chunks * kGatheredAvxVnniTokens * kGatheredAvxVnniStride + block * 8 * 4);
}

// NEON with dot products: the windows of one chunk for 8 tokens, and the sums of a set of units for 8 tokens.
constexpr std::int64_t kGatheredNeonDotTokens = 8;
constexpr std::int64_t kGatheredNeonDotSetRows = 512;
static inline std::size_t gathered_scratch_neondot(std::int64_t chunk) {
  return static_cast<std::size_t>(chunk / 8 * kGatheredNeonDotTokens * 32 + kGatheredNeonDotSetRows * kGatheredNeonDotTokens * 4);
}

}  // namespace aerogel
