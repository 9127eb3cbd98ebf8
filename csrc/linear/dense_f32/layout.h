// dense_f32: y[M,N] = x[M,K] . w[N,K]^T + b[N], everything float.
//
// A unit is a panel of P output rows, interleaved along k, so that one k of a panel is P floats side by side:
//
//     panel p        lane  0           1         ...  P-1            element w[p*P + lane][k] is at
//              k = 0 | w[pP+0][0]  w[pP+1][0] ... w[pP+P-1][0] |         ((p*K + k) * P + lane)
//              k = 1 | w[pP+0][1]  w[pP+1][1] ... w[pP+P-1][1] |
//                ... |                                         |     lanes beyond row N-1 of the last panel are 0
//              K - 1 |                                         |     panels follow one another without gaps
//
// P is a multiple of the vector width of the instruction set and P*4 bytes are whole cache lines (32 bytes for
// scalar and neon), so every weight load is aligned.
//
// A kernel multiplies a register tile of T tokens by one panel. It first copies x into scratch, kChunk columns at a time:
//
//     tile of T tokens, chunk c    token 0   | x[0][c*kChunk ... + kChunk-1] |    token t of a chunk is at t * kChunk,
//                                  ...       |                               |    so its address is one register plus a
//                                  token T-1 |                               |    constant, whatever ldx is; and rows whose
//                                                                                 distance is a power of two cannot fight
//                                                                                 for the same cache sets
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel::dense_f32 {

struct View {
  const float* panels;
  std::int64_t n, k;
};

// What a kernel's shape asks of the packer: rows of a panel, tokens of its register tile, columns of a chunk of x, and the
// most tokens whose chunks stand in scratch together.
struct Shape {
  int panel, tile, chunk, block;
};

// What one register tile reads and writes beside the weights. Plain data: kernel files may share it.
struct Tile {
  const float* x;     // chunks of [tokens][Shape::chunk]
  std::int64_t k;
  const float* bias;  // [Shape::panel], or null: nothing to add
  bool accumulate;    // y already holds the sum of earlier chunks
  float* y;
  std::int64_t ldy;
  std::int64_t rows;  // lanes that exist
};

// One panel chunk (panel * chunk * 4 bytes) fits L1 beside one x tile; a block of x chunks (block * chunk * 4) fits L2.
constexpr Shape kScalar{8, 1, 1, 1};
constexpr Shape kAvx2{16, 6, 384, 144};
constexpr Shape kAvx512{32, 14, 192, 224};
constexpr Shape kNeon{8, 8, 256, 128};

// Of the copies of x, for calls of up to m tokens: one tile has all its chunks there, a block of more tokens one chunk at a time.
static inline std::size_t scratch_bytes(const Shape& shape, std::int64_t k, std::int64_t m) {
  if (shape.chunk == 1) return 0;  // the kernel reads x where it stands
  const std::int64_t few = (m < shape.tile ? m : shape.tile) * ((k + shape.chunk - 1) / shape.chunk);
  const std::int64_t many = m <= shape.tile ? 0 : m < shape.block ? m : shape.block;
  return static_cast<std::size_t>((few > many ? few : many) * shape.chunk) * sizeof(float);
}

}  // namespace aerogel::dense_f32
