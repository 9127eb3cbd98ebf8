// masked_bf16: y[M,N] = x[M,K] . w[N,K]^T + b[N], w stored as a bit mask and the bf16 values of its nonzeros, x and y float.
//
// 1/8 + 2 (1 - sparsity) bytes a weight. It skips bytes, not multiplications: one token streams less, many tokens expand each panel
// once into a tile of floats and cost what dense_f32 costs.
//
// Numbers: those of dense_bf16. x is not rounded; |error| <= 2^-24 * (K + 2) * sum_k |x||w| over the rounded weights, any order
// of summation. A weight that is 0, or rounds to it, is not stored. (As in a dense kernel, an infinite x gives NaN.)
//
// A unit is a panel of P output rows, P a multiple of 8, interleaved along k:
//
//     masks    panel p   k = 0     | P bits |     bit i of byte j says that row pP + 8j + i has a value here
//                        k = 1     | P bits |     column k of panel p is at byte (p*K + k) * P/8
//                        ...       |        |     bits of rows beyond N-1 are 0
//
//     values   panel 0   k = 0     | v v v v v |         as many as bits are set, rows rising, columns rising, panels rising;
//                        k = 1     | v v |               kPadding more at the very end, so that a vector may be read anywhere
//                        ...       | v v v v |
//
//     begin    [panels * sections + 1]     first value of panel p, columns from 64 s on, is at begin[p * sections + s];
//                                          a section is kSection columns, sections = ceil(K / kSection)
//
// P and the tiles are those of dense_f32; scratch holds its copies of x and then, for more tokens than a tile, a chunk of a panel
// as floats.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel::masked_bf16 {

constexpr std::int64_t kSection = 64;
constexpr std::int64_t kPadding = 16;

struct View {
  const std::uint8_t* masks;
  const std::uint16_t* values;
  const std::int64_t* begin;
  std::int64_t n, k, sections;
};

}  // namespace aerogel::masked_bf16
