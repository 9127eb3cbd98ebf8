// gathered_q8: sparse int8 weights, any pattern of nonzeros, output rows on the int32 lanes ("gathered quads").
//
//     one vector = R rows x 4 slots (R = 16 for AVX-512, 8 for AVX2 and AVX-VNNI, 4 for NEON), all slots inside one
//     window of W columns:
//
//                row 0          row 1                  row R-1
//     index  | i0 i1 i2 i3 | i0 i1 i2 i3 |  ...  | i0 i1 i2 i3 |   column - window start, 0 <= i < W
//     value  | v0 v1 v2 v3 | v0 v1 v2 v3 |  ...  | v0 v1 v2 v3 |   signed codes; a free slot is index 0, value 0
//     window   u16, the window's first column is chunk start + window * step
//
// An index is a byte. Those of AVX2, where W = 16, share bytes: slot s of 32 is the low half of byte s for
// s < 16 and the high half of byte s - 16 for the others, so that one shift puts the second half of a register right.
//
// A byte shuffle of the window by `index` fetches, for every row, the activations its four values need.
// Windows slide: each starts at the first nonzero left in any row of the group, rounded down to the step.
//
// Rows are sorted by their number of nonzeros inside a *block* (32 or 64 rows, for AVX-512 up to 256 as sort_block.h
// chooses; the unit of LinearTask), because a group is as long as its longest row; groups of R sorted rows follow each other. K is cut into *chunks*, so
// that the windows of a token tile stay in L1:
//
//     vectors:  block 0 [ chunk 0 [ group 0 | group 1 .. ] chunk 1 [ group 0 | .. ] ]  block 1 [ .. ]
//     segment[(block * chunks + chunk) * groups_per_block + group] is the first vector of that part; one more ends it.
//
// safe_pairs: slots (0,1) and (2,3) of a row never hold two weights of the same sign with |w| + |w'| > 128, so
// that an unsigned x saturating 16-bit multiply-add of activations q + 128 in [1, 255] cannot saturate:
// 255 * 128 = 32640. Weights of opposite sign are always safe.
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
  bool half_bytes;       // two indices in a byte
  bool safe_pairs;
};

struct GatheredView {
  GatheredGeometry geometry;  // chunk: the columns of each chunk but the last, a multiple of 64
  std::int64_t n, k;
  std::int64_t block;             // rows in a unit; the last unit may have fewer
  std::int64_t groups_per_block;  // block / R
  std::int64_t chunks;

  const std::int64_t* segment;
  const std::uint16_t* window;    // [vectors]
  const std::uint8_t* vectors;    // [vectors][ index 4R or 2R bytes | value 4R bytes ], the first 64-byte aligned
  const std::uint8_t* row_at;     // [units * block]: sorted position -> row of the block. A permutation of 0..block-1
  const std::uint8_t* position;   // [units * block]: row of the block -> sorted position, the inverse
  const std::int32_t* start;      // [units * block], by sorted position: -128 * sum of the row's weights, where a sum of
                                  // activations + 128 starts; 0 beyond N
  const float* scale;             // [units * block], by row; 0 beyond N
};

static inline std::int64_t gathered_index_bytes(const GatheredGeometry& g) { return g.half_bytes ? 2 * g.rows : 4 * g.rows; }
static inline std::int64_t gathered_vector_bytes(const GatheredGeometry& g) { return gathered_index_bytes(g) + 4 * g.rows; }
static inline std::int64_t gathered_index(const GatheredGeometry& g, const std::uint8_t* vector, std::int64_t slot) {
  if (!g.half_bytes) return vector[slot];
  const std::int64_t half = 2 * g.rows;
  return slot < half ? vector[slot] & 15 : vector[slot - half] >> 4;
}

// Scratch of each kernel, in bytes (see the kernel for what it holds).
static inline std::int64_t gathered_padded_k(std::int64_t k) { return (k + 63) / 64 * 64; }

// AVX2: rows of u8 activations and the sums of one unit.
constexpr std::int64_t kGatheredAvx2Tokens = 32;  // held at a time, so that a vector fetched from memory serves them all
static inline std::int64_t gathered_avx2_stride(std::int64_t k) {
  return gathered_padded_k(k) + 64;  // an unaligned window may end 15 columns behind K; spreads tokens over L1 sets
}
static inline std::size_t gathered_scratch_avx2(std::int64_t k, std::int64_t block) {
  return static_cast<std::size_t>(gathered_avx2_stride(k) * kGatheredAvx2Tokens + block * 8 * 4);
}

// AVX-512: the windows of one chunk for 16 tokens (gathered_avx512.h), and their sums, [group][token][16]: of one unit at a time where
// there is one chunk, else of a set of units.
constexpr std::int64_t kGatheredAvx512Tokens = 16;
constexpr std::int64_t kGatheredAvx512SetRows = 1024;
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
