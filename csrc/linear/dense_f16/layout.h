// dense_f16: y[M,N] = x[M,K] . w[N,K]^T + b[N], w stored as f16 (IEEE half precision), x and y float.
//
// Numbers: x is not rounded, and every f16 is a float, so the bound is that of the f32 kernels: |error| <= 2^-24 * (K + 2) *
// sum_k |x||w|, on every instruction set. On each, the result is bit for bit that of its dense_f32 over the widened weights. Floats
// are not rounded to f16, which has too few exponents for any weights: only what is f16 already is held.
//
// A unit is a panel of P output rows, interleaved along k as in dense_f32, with 2 bytes an element: w[p*P + lane][k] is code
// (p*K + k) * P + lane. Lanes beyond row N-1 are 0; panels follow one another without gaps and start on cache lines. P and the tiles
// are those of dense_f32; scratch holds its copies of x and then, for more tokens than a tile, space for a chunk of a panel as floats.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel::dense_f16 {

struct View {
  const std::uint16_t* panels;
  std::int64_t n, k;
};

}  // namespace aerogel::dense_f16
