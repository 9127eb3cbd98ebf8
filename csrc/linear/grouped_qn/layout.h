// grouped_qn: codes of 2, 3, 4, 5, 6 or 8 bits, with a scale and perhaps a minimum for each group of 16 or 32 columns: the blocks of
// GGUF files (linear/blocks.h), at their own size. Stacked parts may be of different types.
//
// A kernel takes floats and quantizes them itself, every 32 columns of a token with a scale of their own:
//
//     x_scale[m, h] = max |x| / 127        code x[m, k] = round_half_even(x * (127 / max |x|))       as op quantize does, 32 by 32
//
//     y[m, n] = bias[n] + sum over groups g, ascending, of
//               fma(float(sum over the columns of g of x[m, k] * v[n, k]),  scale[n, g] * x_scale[m, h],  total so far)
//          then fma(min[n, g],  float(sum over the columns of g of x[m, k]) * x_scale[m, h],  total so far)      where there are minima
//
//     v = code - centre, or level[code]           min: of the block; where the centre is not the block's zero, + scale * (centre - zero)
//
// The sums of a group are exact integers; floats are fused where it says so and nowhere else: y is bit-identical on every instruction
// set. Against exact arithmetic on the quantized x its error is that of K / 16 additions of floats.
//
// All instruction sets share one layout, panels of 16 rows. A panel is a unit; a part begins a new one. Codes lie in *quads* of four
// columns of 16 rows, 64 codes, row after row. 16 columns are four quads, and are stored as, one behind the other,
//
//     nibbles   4 x 32 bytes   of 4, 5 and 6 bits: byte b of a quad has the low four bits of codes b and b + 32
//     pairs     2 x 32 bytes   of 2, 3 and 6 bits: byte b of quads 2i and 2i + 1 has, from its lowest bit on, two bits each of codes
//                              b and b + 32 of the one and b and b + 32 of the other quad: the low ones; of 6 bits the high ones
//     ones      32 bytes       of 3 and 5 bits: byte b has, from its lowest bit on, the high bit of codes b and b + 32 of each quad
//
// 8 bits are two nibbles, code = 16 h + l: the nibbles h of a group (centre 8), then all its nibbles l (centre 0). Levels likewise
// (they are not stored twice: the nibble of a code is read, and its level's h, then l, looked up).
//
//     codes     | panel 0: group 0, group 1, ... | panel 1 | ...
//     scale     | panel 0, block 0: 16 x float16 (or bf16) | block 1 | ...       min alike
//     sub       | panel 0, group 0: 16 bytes | group 1 | ...                     submin alike: only where groups have them
//
// Rows beyond N have scales 0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

constexpr std::int64_t kQnRows = 16;
constexpr std::int64_t kQnInput = 32;  // columns of x that share a scale

struct GroupedQnPart {
  std::int64_t first_row, n;   // its outputs
  std::int64_t first_unit, units;
  std::int64_t group;          // columns: 16 or 32
  std::int64_t block;          // columns, a multiple of the group
  std::int64_t group_bytes;    // of the codes of 16 rows
  int bits;                    // as stored: 2, 3, 4, 5, 6 or 8
  int centre;                  // 8 bits: of h, that of l is 0
  int shift;                   // centre - zero, for the minimum
  bool bf16;                   // scales
  bool table;                  // codes are indices
  const std::uint8_t* codes;   // 64-byte aligned, as are the others
  const std::uint16_t* scale;
  const std::uint16_t* min;    // or null
  const std::int8_t* sub;      // or null
  const std::uint8_t* submin;  // or null
  std::uint8_t high[16], low[16];  // of the levels + 128
};

struct GroupedQnView {
  std::int64_t n, k;
  std::int64_t count;
  const GroupedQnPart* parts;
};

// Bytes of 16 columns of 16 rows.
static inline std::int64_t grouped_qn_bytes16(int bits) { return bits == 8 ? 256 : 32 * bits; }

// Tiles and scratch of the vector kernels; the loops are those of dense_q8/layout.h.
//
//     scratch:  x codes [chunks, tokens, stride] | a panel's chunk, a code in each byte [2 x 16 x chunk] | scales and minima of a panel's
//               chunk [2][groups, 16] float | totals [tokens, 16] float | for each token: x_scale [K/32] float, sums of x [K/16] (what a sum
//               is: the kernel's own), float sums of x * x_scale [K/16] and [K/32]
struct GroupedQnTiling {
  std::int64_t tile, chunk, stride;
};
constexpr GroupedQnTiling kGroupedQnAvx2{6, 512, 512 + 64};
constexpr GroupedQnTiling kGroupedQnAvx512{12, 512, 512 + 64};

static inline std::int64_t grouped_qn_chunks(const GroupedQnTiling& t, std::int64_t k) { return (k + t.chunk - 1) / t.chunk; }

// Columns in a chunk: whole cache lines of codes of x.
static inline std::int64_t grouped_qn_chunk(const GroupedQnTiling& t, std::int64_t k) {
  const std::int64_t chunks = grouped_qn_chunks(t, k);
  return ((k + chunks - 1) / chunks + 63) / 64 * 64;
}

// The most tokens in a block: their codes stay in L2.
static inline std::int64_t grouped_qn_block(const GroupedQnTiling& t, std::int64_t k) {
  const std::int64_t fit = 192 * 1024 / k / t.tile * t.tile;
  return fit < 24 ? 24 : fit > 96 ? 96 : fit;
}

static inline std::int64_t grouped_qn_x_numbers(std::int64_t k) { return k / 32 + k / 16 + k / 16 + k / 32; }

static inline std::size_t grouped_qn_scratch_bytes(const GroupedQnTiling& t, std::int64_t k, std::int64_t m) {
  const std::int64_t block = grouped_qn_block(t, k), tokens = m < block ? m : block;
  const std::int64_t x = grouped_qn_chunks(t, k) * tokens * t.stride;
  return static_cast<std::size_t>(x + 2 * kQnRows * t.chunk + 2 * t.chunk / 16 * kQnRows * 4 + tokens * kQnRows * 4 +
                                  tokens * grouped_qn_x_numbers(k) * 4);
}

// neon: tokens that share a decoded group; scratch is their scales, totals and codes.
constexpr std::int64_t kQnNeonTokens = 16;
static inline std::size_t grouped_qn_neon_scratch_bytes(std::int64_t k) {
  return static_cast<std::size_t>(kQnNeonTokens * (k / kQnInput * 4 + kQnRows * 4 + k));
}

}  // namespace aerogel
