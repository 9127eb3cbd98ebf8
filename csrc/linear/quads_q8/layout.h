// quads_q8: sparse int8 weights, any pattern of nonzeros, one row after the other: a kernel has tokens on its lanes.
//
//     one quad:   column | c0 c1 c2 c3 | u16, 8 * (column - chunk start)
//                 weight | w0 w1 w2 w3 | |w|, bytes
//                 sign   |  s01   s23  | i16, +1 or -1: the sign of both weights of a pair
//
//     one octet:  column | c0 .. c7 |    weight | w0 w1 w0 w1 | w2 w3 w2 w3 | w4 w5 w4 w5 | w6 w7 w6 w7 |
//                 sign   | s0123  s4567 |
//
//     row n of a chunk: octets octet_begin[chunk * N + n] .. of the same place + 1, then the quads of quad_begin.
//     A free slot has weight 0 and a column of its row; octets have none.
//
// With the sign apart, |w| is the unsigned factor of a 16-bit multiply-add and x, as it is, the signed one:
// 2 * 127 * 127 = 32258 never saturates, and no offset has to be taken off. The four weights of half an octet have a
// sum of magnitudes of at most 258, so that two such pairs can be added in 16 bits: 127 * 258 = 32766. A row's
// smallest weights are in octets, the rest in quads. Columns are stored times 8, because x86 scales an index by at
// most 8 and a column of a transposed tile is 8 * 4 or 8 * 8 bytes long.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/linear.h"

namespace aerogel {

struct Quad {
  std::uint16_t column[4];
  std::uint8_t weight[4];
  std::int16_t sign[2];
};

struct Octet {
  std::uint16_t column[8];
  std::uint8_t weight[16];
  std::int16_t sign[2];
};

struct QuadsView {
  std::int64_t n, k;
  std::int64_t chunk, chunks;  // columns of each chunk but the last, and the number of chunks
  const std::int64_t* octet_begin;
  const Octet* octets;
  const std::int64_t* quad_begin;
  const Quad* quads;
  const float* scale;          // [N rounded up to 8], 0 beyond N
};

// A unit is 8 rows.
constexpr std::int64_t kQuadsRows = 8;
// Column 8192 is the first that a 16-bit column times 8 cannot name.
constexpr std::int64_t kQuadsChunk = 8192;

static inline std::int64_t quads_padded_k(std::int64_t k) { return (k + 63) / 64 * 64; }

// AVX2: a transposed tile of up to 64 tokens and the sums of 8 rows.
constexpr std::int64_t kQuadsAvx2Tokens = 64;
static inline std::size_t quads_scratch_avx2(std::int64_t k) {
  return static_cast<std::size_t>(quads_padded_k(k) * kQuadsAvx2Tokens + kQuadsRows * kQuadsAvx2Tokens * 4);
}

}  // namespace aerogel
