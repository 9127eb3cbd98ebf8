// The contract of every linear kernel.
//
//     y[M,N] = x[M,K] . w[N,K]^T + b[N]          M tokens, N outputs, K inputs
//
// A weight format is a folder: layout.h draws the packed form and defines its View, pack.cpp makes it from a
// WeightSource, and one file per instruction set runs it. kernels/kernels.inc has one row per kernel.
//
// Numbers
//   f32 kernels   x, w, y are float. |error| <= 2^-24 * (K + 2) * sum_k |x||w|, any order of summation.
//   q8 kernels    x is signed 8-bit in [-127, 127] with one scale per token, w signed 8-bit in [-127, 127] with one
//                 scale per output. The int32 sum is exact and bit-identical on every ISA; nothing saturates
//                 (K <= 2^31 / 127^2 = 133144 is checked when packing). Then, in this order and without fusing,
//                     y = float(sum) * (x_scale[m] * w_scale[n]) + b[n]     (b absent: no addition)
//                 so y is bit-identical too.
//
// This header is included by kernel files: plain data only, nothing that could leave a weak symbol behind.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// One call: some tokens times some units of output rows. A *unit* is the grain in which a format hands out rows
// (a panel, a row group); units are independent, each output is written by exactly one unit.
struct LinearTask {
  const void* weight;      // the format's View
  const void* x;           // [m, ldx] float, or int8_t when the kernel takes q8
  const float* x_scale;    // [m], q8 only
  std::int64_t ldx;        // elements between tokens. q8: a multiple of 64 >= K; x 64-byte aligned; columns K..ldx are 0
  std::int64_t m;          // tokens, >= 1
  std::int64_t unit_begin; // units [unit_begin, unit_end) are computed
  std::int64_t unit_end;
  const float* bias;       // [N] or null
  float* y;                // [m, ldy]: token 0, output 0; only this task's outputs are written
  std::int64_t ldy;        // elements between tokens, >= N
  void* scratch;           // scratch_bytes(weight, m) bytes, 64-byte aligned, this call's own; contents unspecified
};

using LinearRun = void (*)(const LinearTask& task);

}  // namespace aerogel
