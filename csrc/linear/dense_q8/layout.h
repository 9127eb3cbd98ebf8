// dense_q8: every weight stored as one signed byte, one scale per output row. The honest baseline of the sparse formats.
//
// Rows are cut into panels of R rows, and a panel is stored column group by column group:
//
//     panel p                        k = 0..G-1      G..2G-1        ...     k_padded-G..k_padded-1
//       row pR       -> lane 0      | w[0, 0..G-1] | w[0, G..2G-1] |       |                       |
//       row pR + 1   -> lane 1      | w[1, 0..G-1] | ...           |       |                       |
//         ...                       |   ...        |               |       |                       |
//       row pR + R-1 -> lane R-1    | ...          | ...           |       |                       |
//     in memory:                      R*G bytes,     R*G bytes, ...  each column of the drawing from top to bottom
//
//     w[n, k]  is byte  ((n/R * k_padded/G + k/G) * R + n%R) * G + k%G
//
// Rows beyond N and columns K..k_padded hold the code 0; k_padded is K rounded up to 16, so that a kernel reads x no
// further than its zeroed columns. A panel is a unit; panels start on cache lines; a call streams the bytes in order.
//
//                R   G   byte          why
//     scalar     4  16   w             as neon, so that the reference reads what an ISA reads
//     neon       4  16   w             one 16-byte register is 16 columns of one row: no broadcast of x is needed
//     neondot    8   4   w             two q registers feed sdot: 4 rows x 4 columns each, x by lane
//     avx2      16   2   w             widened to int16, two ymm feed vpmaddwd: 8 rows x 2 columns each
//     avxvnni   16   4   w + 128       two ymm feed vpdpbusd as its unsigned side: 8 rows x 4 columns each
//     avx512    32   4   w + 128       two zmm feed vpdpbusd as its unsigned side: 16 rows x 4 columns each
//
// vpdpbusd multiplies unsigned by signed. With the offset on the weights x is used as it stands, and what the offset adds,
// 128 * sum_k x[m,k], is one number per token (unsigned x would cost a converted copy and a sum per row).
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

struct DenseQ8View {
  std::int64_t n;
  std::int64_t k;
  std::int64_t k_padded;    // multiple of 16
  const std::int8_t* codes; // drawn above; 64-byte aligned
  const float* scale;       // [N rounded up to R], 0 beyond N
};

// R, G, and what is added (modulo 256) to each code.
struct DenseQ8Panel {
  std::int64_t rows, group;
  std::uint8_t offset;
};
constexpr DenseQ8Panel kDenseQ8Scalar{4, 16, 0};
constexpr DenseQ8Panel kDenseQ8Neon{4, 16, 0};
constexpr DenseQ8Panel kDenseQ8NeonDot{8, 4, 0};
constexpr DenseQ8Panel kDenseQ8Avx2{16, 2, 0};
constexpr DenseQ8Panel kDenseQ8AvxVnni{16, 4, 128};
constexpr DenseQ8Panel kDenseQ8Avx512{32, 4, 128};

// Tiles and scratch of the x86 kernels. Columns are taken in chunks, tokens in blocks:
//
//     for block of tokens           its copy of x stays in L2 (at most kBytes of the 512 KB that small cores have)
//       copy x of the block
//       for panel of the task       at least 24 tokens make use of a panel that comes from L3 or memory
//         for chunk of columns      the panel's chunk stays in L1, the int32 sums wait in scratch between chunks
//           for tile of tokens      in registers
//
//     scratch:  x [chunks, tokens, stride] | avx2: the panel's chunk as int16 | sums [tokens, R] int32
//                                                                     | avxvnni, avx512: 128 * sum_k x [tokens] int32
//
// `stride` is a constant, so that the tokens of a tile are displacements of one address, and a cache line more than the
// chunk, so that they do not compete for the same L1 sets as they would in x.
struct DenseQ8Tiling {
  std::int64_t tile;         // tokens in a register tile
  std::int64_t chunk;        // the most columns in a chunk
  std::int64_t stride;       // elements
  std::int64_t x_bytes;      // bytes of an element in the copy of x
  std::int64_t panel_bytes;  // of a chunk as int16
  std::int64_t sums;         // int32 per token
  std::int64_t least;        // tokens in a block, however many bytes they are
};
constexpr DenseQ8Tiling kDenseQ8TilingAvx2{6, 512, 512 + 32, 2, 16 * 512 * 2, 16, 24};
constexpr DenseQ8Tiling kDenseQ8TilingAvxVnni{6, 1024, 1024 + 64, 1, 0, 16 + 1, 24};
constexpr DenseQ8Tiling kDenseQ8TilingAvx512{12, 768, 768 + 64, 1, 0, 32 + 1, 24};

static inline std::int64_t dense_q8_chunks(const DenseQ8Tiling& t, std::int64_t k_padded) {
  return (k_padded + t.chunk - 1) / t.chunk;
}

// Columns in a chunk: whole cache lines of x.
static inline std::int64_t dense_q8_chunk(const DenseQ8Tiling& t, std::int64_t k_padded) {
  const std::int64_t chunks = dense_q8_chunks(t, k_padded);
  return ((k_padded + chunks - 1) / chunks + 63) / 64 * 64;
}

// The most tokens in a block.
static inline std::int64_t dense_q8_block(const DenseQ8Tiling& t, std::int64_t k_padded) {
  const std::int64_t kMax = 96, kBytes = 192 * 1024;
  const std::int64_t fit = kBytes / (k_padded * t.x_bytes) / t.tile * t.tile;
  return fit < t.least ? t.least : fit > kMax ? kMax : fit;
}

static inline std::size_t dense_q8_scratch_bytes(const DenseQ8Tiling& t, std::int64_t k_padded, std::int64_t m) {
  const std::int64_t block = dense_q8_block(t, k_padded);
  const std::int64_t tokens = m < block ? m : block;
  const std::int64_t x = dense_q8_chunks(t, k_padded) * tokens * t.stride * t.x_bytes;
  return static_cast<std::size_t>(x + t.panel_bytes + tokens * t.sums * 4);
}

// neondot: tokens in blocks whose x stays in a 192 KB share of L2; scratch is a block's x, tile by tile [k/16][tile][16].
constexpr std::int64_t kDenseQ8NeonDotTile = 8;
static inline std::int64_t dense_q8_neondot_block(std::int64_t k_padded) {
  const std::int64_t fit = 192 * 1024 / k_padded / kDenseQ8NeonDotTile * kDenseQ8NeonDotTile;
  return fit < 16 ? 16 : fit;
}
static inline std::size_t dense_q8_neondot_scratch_bytes(std::int64_t k_padded, std::int64_t m) {
  const std::int64_t block = dense_q8_neondot_block(k_padded);
  return static_cast<std::size_t>((m < block ? m : block) * k_padded);
}

}  // namespace aerogel
