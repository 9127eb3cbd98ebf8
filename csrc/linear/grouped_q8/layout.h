// grouped_q8: every weight stored as one signed byte, one float scale for each group of columns of a row.
//
//     y[m, n] = (sum over groups g, ascending, of scale[n, g] * float(sum over the columns of g of x[m, k] * code[n, k])) * x_scale[m] + b[n]
//
// The sum of a group is exact in int32; products and additions of floats are separate, the first of them to 0, so y is
// bit-identical on every instruction set.
//
// Codes lie as in dense_q8, in its panels of R rows (dense_q8/layout.h draws them):
//
//     codes    | panel 0: k_padded columns of R rows | panel 1 | ...                     k_padded is K rounded up to 16
//     scale    | panel 0, group 0: R floats | panel 0, group 1 | ... | panel 1, group 0 | ...
//
// Groups have a multiple of 16 columns and at most 512, so that a chunk of columns is whole groups; the last one may have fewer. A
// panel is a unit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/dense_q8/layout.h"

namespace aerogel {

struct GroupedQ8View {
  std::int64_t n;
  std::int64_t k;
  std::int64_t k_padded;     // multiple of 16
  std::int64_t group;        // columns
  std::int64_t groups;       // of a row
  const std::int8_t* codes;  // 64-byte aligned
  const float* scale;        // [units][groups][R], 64-byte aligned, 0 beyond N
};

constexpr std::int64_t kGroupedQ8Multiple = 16;
constexpr std::int64_t kGroupedQ8Most = 512;

// Tiles as in DenseQ8Tiling; sums are float.
//
//     scratch:  x [chunks, tokens, stride] | avx2: the panel's chunk as int16 | sums [tokens, R] float
//                                                                     | avx512: -128 * sum of x of a group [tokens, groups] int32
constexpr DenseQ8Tiling kGroupedQ8TilingAvx2{6, 512, 512 + 32, 2, 16 * 512 * 2, 16, 24};
constexpr DenseQ8Tiling kGroupedQ8TilingAvx512{12, 512, 768 + 64, 1, 0, 32, 24};

// Columns in a chunk: the most whole groups.
static inline std::int64_t grouped_q8_chunk(const DenseQ8Tiling& t, std::int64_t group) { return t.chunk / group * group; }

static inline std::int64_t grouped_q8_chunks(const DenseQ8Tiling& t, std::int64_t k_padded, std::int64_t group) {
  const std::int64_t chunk = grouped_q8_chunk(t, group);
  return (k_padded + chunk - 1) / chunk;
}

// group_bytes: of a token, for each of its groups.
static inline std::size_t grouped_q8_scratch_bytes(const DenseQ8Tiling& t, std::int64_t k_padded, std::int64_t group,
                                                   std::int64_t group_bytes, std::int64_t m) {
  const std::int64_t block = dense_q8_block(t, k_padded), groups = (k_padded + group - 1) / group;
  const std::int64_t tokens = m < block ? m : block;
  const std::int64_t x = grouped_q8_chunks(t, k_padded, group) * tokens * t.stride * t.x_bytes;
  return static_cast<std::size_t>(x + t.panel_bytes + tokens * t.sums * 4 + tokens * groups * group_bytes);
}

}  // namespace aerogel
