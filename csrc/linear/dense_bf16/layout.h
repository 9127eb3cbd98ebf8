// dense_bf16: y[M,N] = x[M,K] . w[N,K]^T + b[N], w stored as bf16, x and y float.
//
// Numbers: x is not rounded. A bf16 is a float whose lower half is 0, so widening a weight is exact, and the bound is that of the
// f32 kernels over the rounded weights: |error| <= 2^-24 * (K + 2) * sum_k |x||w|, on every instruction set. On each, the result is
// bit for bit that of its dense_f32 over the widened weights. Packing rounds floats to the nearest bf16, ties to even
// (|w - bf16(w)| <= 2^-8 |w| for normal w); values that are bf16 already are stored as they are.
//
// Why there is no kernel with vdpbf16ps (AVX512_BF16): it wants x as bf16 too, flushes denormals and rounds in its own way, so the
// same file would give other answers where it is present, for twice the products a cycle and no gain for one token, whose
// time is that of reading the weights.
//
// A unit is a panel of P output rows, interleaved along k as in dense_f32, two rows to a 32-bit word:
//
//     panel p        word  0                     1                        ...  P/2-1
//              k = 0 | w[pP+0][0] w[pP+P/2][0] | w[pP+1][0] w[pP+P/2+1][0] ... |    lower half: row i of the first P/2 rows,
//              k = 1 | w[pP+0][1] w[pP+P/2][1] | ...                           |    upper half: row P/2 + i
//                ... |                                                         |
//              K - 1 |                                                         |
//
// so that one load gives P floats: word << 16 is the first half of the rows, word & 0xffff0000 the second.
// Element w[p*P + lane][k] is code (p*K + k) * P + lane % (P/2) * 2 + lane / (P/2). Lanes beyond row N-1 are 0; panels follow
// one another without gaps and start on cache lines. P and the tiles are those of dense_f32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel::dense_bf16 {

struct View {
  const std::uint16_t* panels;
  std::int64_t n, k;
};

}  // namespace aerogel::dense_bf16
