// csr_f32 over the vocabulary of a vector/<isa>.h, which is included before. Loops over a register tile must be unrolled, or the
// tile lives in memory.
#pragma once

#include "linear/csr_f32/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

using csr_f32::kUnit;
using csr_f32::View;

constexpr int kStep = static_cast<int>(csr_f32::kStep);
static_assert(kStep == 4, "a step is four values in a vector, and four columns in a word of 64 bits");

// The vectors that hold `width` tokens, as wide as that allows, and those in squares of which tokens are transposed.
template <int width>
struct Of {
  using Lanes = Vector;
  using Square = Vector8;
};
template <>
struct Of<8> {
  using Lanes = Vector8;
  using Square = Vector8;
};
template <>
struct Of<4> {
  using Lanes = Vector4;
  using Square = Vector4;
};
template <int width>
constexpr int kSide = sizeof(typename Of<width>::Square) / sizeof(float);

// xt[k + 1][width], some lanes of it: kSide tokens of x, and zeros behind. Lanes beyond `valid` repeat the last token and are never stored.
template <int width>
void transpose_x(const float* x, std::int64_t ldx, std::int64_t valid, std::int64_t k, float* xt) {
  constexpr int side = kSide<width>;
  const float* row[side];
  for (int t = 0; t < side; ++t) row[t] = x + (t < valid ? t : valid - 1) * ldx;
  std::int64_t i = 0;
  for (; i + side <= k; i += side) {
    typename Of<width>::Square r[side];
#pragma GCC unroll 16
    for (int t = 0; t < side; ++t) load(row[t] + i, r[t]);
    transpose(r);
#pragma GCC unroll 16
    for (int j = 0; j < side; ++j) store(xt + (i + j) * width, r[j]);
  }
  for (; i < k; ++i)
    for (int t = 0; t < side; ++t) xt[i * width + t] = row[t][i];
  for (int t = 0; t < side; ++t) xt[k * width + t] = 0.0f;
}

// sums[rows][width], some lanes of it, to kSide tokens of y from output `row` on.
template <int width>
void store_y(const float* sums, std::int64_t rows, std::int64_t row, std::int64_t valid, const float* bias, float* y,
             std::int64_t ldy) {
  using Square = typename Of<width>::Square;
  constexpr int side = kSide<width>;
  std::int64_t n = 0;
  for (; n + side <= rows; n += side) {
    Square r[side], b{};
#pragma GCC unroll 16
    for (int j = 0; j < side; ++j) load(sums + (n + j) * width, r[j]);
    transpose(r);
    if (bias != nullptr) load(bias + row + n, b);
#pragma GCC unroll 16
    for (int t = 0; t < side; ++t)
      if (t < valid) store(y + t * ldy + row + n, add(r[t], b));
  }
  for (; n < rows; ++n)
    for (int t = 0; t < side && t < valid; ++t) y[t * ldy + row + n] = sums[n * width + t] + (bias == nullptr ? 0.0f : bias[row + n]);
}

// The columns of a step; `at_once`: by one load where they are 16-bit. Where loads bound a loop, shifts are free beside them.
template <bool at_once, class Column>
inline void load_columns(const Column* columns, std::size_t (&out)[kStep]) {
  std::uint64_t word;
  if (at_once && sizeof(Column) == 2) __builtin_memcpy(&word, columns, sizeof word);
#pragma GCC unroll 16
  for (int p = 0; p < kStep; ++p) out[p] = at_once && sizeof(Column) == 2 ? static_cast<std::uint16_t>(word >> (16 * p)) : columns[p];
}

// sums[width tokens] of one row. Each of the kStep nonzeros of a step has its own sums, or FMA latency would bound them.
template <int width, class Column>
inline void multiply_row(const float* values, const Column* columns, const float* values_end, const float* xt, float* sums) {
  using Lanes = typename Of<width>::Lanes;
  constexpr int lanes = sizeof(Lanes) / sizeof(float), vectors = width / lanes;
  Lanes sum[kStep][vectors] = {};
  for (; values != values_end; values += kStep, columns += kStep) {
    Lanes value[kStep];
    broadcast_four(values, value);
    std::size_t column[kStep];
    load_columns<(width > 4)>(columns, column);  // four tokens: one multiply-add a nonzero, whose latency is the bound
#pragma GCC unroll 16
    for (int p = 0; p < kStep; ++p) {
      const float* x = xt + column[p] * width;
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        Lanes tokens;
        load(x + lanes * v, tokens);
        sum[p][v] = fma(value[p], tokens, sum[p][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) store(sums + lanes * v, add(add(sum[0][v], sum[1][v]), add(sum[2][v], sum[3][v])));
}

inline std::int64_t last_row(const LinearTask& task, const View& view) {
  return task.unit_end * kUnit < view.n ? task.unit_end * kUnit : view.n;
}

// Up to `width` tokens.
template <int width, class Column>
void run_tile(const LinearTask& task, const View& view, const Column* columns, std::int64_t token, std::int64_t valid) {
  constexpr int side = kSide<width>;
  float* xt = static_cast<float*>(task.scratch);
  float* sums = xt + (view.k + 1) * width;
  const float* x = static_cast<const float*>(task.x) + token * task.ldx;
  for (std::int64_t t = 0; t < valid; t += side) transpose_x<width>(x + t * task.ldx, task.ldx, valid - t, view.k, xt + t);

  const std::int64_t end = last_row(task, view);
  for (std::int64_t row = task.unit_begin * kUnit; row < end; row += kUnit) {
    const std::int64_t rows = end - row < kUnit ? end - row : kUnit;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t begin = view.row_begin[row + r];
      multiply_row<width>(view.values + begin, columns + begin, view.values + view.row_begin[row + r + 1], xt, sums + r * width);
    }
    for (std::int64_t t = 0; t < valid; t += side)
      store_y<width>(sums + t, rows, row, valid - t, task.bias, task.y + (token + t) * task.ldy, task.ldy);
  }
}

// Four products of one token.
template <class Column>
inline Vector4 multiply_step(const float* values, const Column* columns, const float* x, Vector4 sum) {
  std::size_t column[kStep];
  load_columns<true>(columns, column);
  Vector4 four;
  load(values, four);
  return fma(four, gather_four(x, column), sum);
}

// One token, copied first: padding needs a zero behind it. Streamed is how it goes through the weights: with `strands` sums at once; they are asked for `ahead` nonzeros ahead
// of time, as they may come from memory, or not at all where that is 0.
template <class Streamed, class Column>
void run_one(const LinearTask& task, const View& view, const Column* columns, std::int64_t token) {
  float* x = static_cast<float*>(task.scratch);
  __builtin_memcpy(x, static_cast<const float*>(task.x) + token * task.ldx, static_cast<std::size_t>(view.k) * sizeof(float));
  x[view.k] = 0.0f;
  const std::int64_t end = last_row(task, view);
  for (std::int64_t row = task.unit_begin * kUnit; row < end; ++row) {
    Vector4 even{}, odd{};
    std::int64_t i = view.row_begin[row];
    const std::int64_t stop = view.row_begin[row + 1];
    for (; i + Streamed::strands * kStep <= stop; i += Streamed::strands * kStep) {
      if (Streamed::ahead != 0) {
        prefetch(view.values + i + Streamed::ahead);
        prefetch(columns + i + Streamed::ahead);
      }
      even = multiply_step(view.values + i, columns + i, x, even);
      if (Streamed::strands == 2) odd = multiply_step(view.values + i + kStep, columns + i + kStep, x, odd);
    }
    if (i < stop) even = multiply_step(view.values + i, columns + i, x, even);
    const float total = sum_lanes(Streamed::strands == 2 ? add(even, odd) : even);
    task.y[token * task.ldy + row] = task.bias == nullptr ? total : total + task.bias[row];
  }
}

// The widest tile first; what is left goes to the narrowest that holds it.
template <class Isa, class Column>
void run_columns(const LinearTask& task, const View& view, const Column* columns) {
  for (std::int64_t token = 0, valid; token < task.m; token += valid) {
    const std::int64_t left = task.m - token;
    valid = left < Isa::widest ? left : Isa::widest;
    if (left == 1) {
      run_one<Isa>(task, view, columns, token);
    } else if (left <= 4) {
      run_tile<4>(task, view, columns, token, valid);
    } else if (left <= 8) {
      run_tile<8>(task, view, columns, token, valid);
    } else if (Isa::widest == 16 || left <= 24) {
      valid = left < 16 ? left : 16;
      run_tile<16>(task, view, columns, token, valid);
    } else {
      run_tile<Isa::widest>(task, view, columns, token, valid);
    }
  }
}

template <class Isa>
void run(const LinearTask& task) {
  static_assert(Isa::widest <= csr_f32::kMaxTile, "scratch holds no wider tile");
  const auto& view = *static_cast<const View*>(task.weight);
  view.columns16 != nullptr ? run_columns<Isa>(task, view, view.columns16) : run_columns<Isa>(task, view, view.columns32);
}

}  // namespace
}  // namespace aerogel
