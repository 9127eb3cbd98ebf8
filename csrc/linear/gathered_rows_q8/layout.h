// gathered_rows_q8: gathered_q8 for weights where R = 4 or 2 neighbouring output rows, a *set*, share a mask: a lane is a set, so that
// one gathered register of activations is multiplied R times. Any pattern is correct (zeros of a set's columns are stored), but only
// such patterns are small and fast.
//
//     one vector = 16 sets x 4 slots, all slots inside one window of 64 columns:
//
//                     set 0         set 1               set 15
//     index       | i0 i1 i2 i3 | i0 i1 i2 i3 | .. | i0 i1 i2 i3 |   column - window start, 0 <= i < 64
//     value 0     | v0 v1 v2 v3 | ..                             |   signed codes of the first row of each set
//     ..
//     value R-1   | v0 v1 v2 v3 | ..                             |   of the last one; a free slot is index 0 and values 0
//     window        u16, the window's first column is chunk start + 32 * window
//
// Windows slide: each starts at the first column left in any set of the group, rounded down to the step of 32. Sets are sorted by
// their number of columns inside a block of 64 rows, the unit of LinearTask; groups of 16 sorted sets follow each other. K is cut into
// chunks, so that the windows of a token tile stay in L1:
//
//     vectors:  block 0 [ chunk 0 [ group 0 | group 1 .. ] chunk 1 [ group 0 | .. ] ]  block 1 [ .. ]
//     segment[(block * chunks + chunk) * groups + group] is the first vector of that part; one more ends it.
//
// Sums of a block stand in *places*: [group][row of the set][16 lanes]. In scratch each 16 of them have those of all tokens of a tile
// after each other: [group][row of the set][token][16 lanes].
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/linear.h"

namespace aerogel {

struct GatheredRowsView {
  std::int64_t n, k;
  std::int64_t rows;           // R
  std::int64_t groups;         // of a block: 64 / (16 R)
  std::int64_t chunk, chunks;  // columns of each chunk but the last (a multiple of 64), and the number of chunks

  const std::int64_t* segment;
  const std::uint16_t* window;  // [vectors]
  const std::uint8_t* vectors;  // [vectors][64 + 64 R], 64-byte aligned
  const std::uint8_t* place;    // [units * 64]: row of the block -> its place, a permutation of 0 .. 63
  const std::int32_t* start;    // [units * 64], by place: -128 * sum of the row's weights, what its sum starts from; 0 beyond N
  const float* scale;           // [units * 64]; 0 beyond N
};

constexpr std::int64_t kGatheredRowsBlock = 64;
constexpr std::int64_t kGatheredRowsStep = 32;
static inline std::int64_t gathered_rows_vector_bytes(std::int64_t rows) { return 64 + 64 * rows; }

// AVX-512: the windows of one chunk for 8 tokens (gathered_avx512.h), and their sums: of one unit at a time where there is one chunk, else
// of a set of units.
constexpr std::int64_t kGatheredRowsTokens = 8;
constexpr std::int64_t kGatheredRowsSetRows = 1024;
static inline std::size_t gathered_rows_scratch(std::int64_t chunk) {
  return static_cast<std::size_t>(chunk / kGatheredRowsStep * kGatheredRowsTokens * 64 +
                                  kGatheredRowsSetRows * kGatheredRowsTokens * 4);
}

}  // namespace aerogel
