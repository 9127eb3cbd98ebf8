// Bound by loads: a nonzero times 8 tokens is 2 FMAs and 2 loads of xt, its value comes in with three others. Correct under
// emulation, not measured.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "linear/csr_f32/layout.h"
#include "linear/linear.h"

// Loops over a register tile must be unrolled, or the tile lives in memory.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace aerogel {
namespace {

using csr_f32::kUnit;
using csr_f32::View;

static_assert(csr_f32::kStep == 4, "a step's values are one vector");

inline void transpose4(float32x4_t r[4]) {
  const float32x4x2_t ab = vtrnq_f32(r[0], r[1]), cd = vtrnq_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
  r[1] = vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
  r[2] = vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
  r[3] = vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

// xt[k][width], lanes 0..3 of it: 4 tokens of x. Lanes beyond `valid` repeat the last token and are never stored.
void transpose_x(const float* x, std::int64_t ldx, std::int64_t valid, std::int64_t k, float* xt, std::int64_t width) {
  const float* row[4];
  for (int t = 0; t < 4; ++t) row[t] = x + (t < valid ? t : valid - 1) * ldx;
  std::int64_t i = 0;
  for (; i + 4 <= k; i += 4) {
    float32x4_t r[4];
    UNROLL
    for (int t = 0; t < 4; ++t) r[t] = vld1q_f32(row[t] + i);
    transpose4(r);
    UNROLL
    for (int j = 0; j < 4; ++j) vst1q_f32(xt + (i + j) * width, r[j]);
  }
  for (; i < k; ++i)
    for (int t = 0; t < 4; ++t) xt[i * width + t] = row[t][i];
}

// sums[rows][width], lanes 0..3 of it, to 4 tokens of y from output `row` on.
void store_y(const float* sums, std::int64_t width, std::int64_t rows, std::int64_t row, std::int64_t valid,
             const float* bias, float* y, std::int64_t ldy) {
  if (valid > 4) valid = 4;
  std::int64_t n = 0;
  for (; n + 4 <= rows; n += 4) {
    float32x4_t r[4];
    UNROLL
    for (int j = 0; j < 4; ++j) r[j] = vld1q_f32(sums + (n + j) * width);
    transpose4(r);
    const float32x4_t b = bias == nullptr ? vdupq_n_f32(0.0f) : vld1q_f32(bias + row + n);
    UNROLL
    for (int t = 0; t < 4; ++t)
      if (t < valid) vst1q_f32(y + t * ldy + row + n, vaddq_f32(r[t], b));
  }
  for (; n < rows; ++n)
    for (std::int64_t t = 0; t < valid; ++t)
      y[t * ldy + row + n] = bias == nullptr ? sums[n * width + t] : sums[n * width + t] + bias[row + n];
}

template <int V, int P, class Column>
inline void multiply_nonzero(float32x4_t values, const Column* columns, const float* xt, float32x4_t (&sum)[V]) {
  const float* x = xt + static_cast<std::size_t>(columns[P]) * (4 * V);
  UNROLL
  for (int v = 0; v < V; ++v) sum[v] = vfmaq_laneq_f32(sum[v], vld1q_f32(x + 4 * v), values, P);
}

// sums[4*V tokens] of one row. Each of the four nonzeros of a step has its own sums, or FMA latency would bound them.
template <int V, class Column>
inline void multiply_row(const float* values, const Column* columns, const float* values_end, const float* xt, float* sums) {
  float32x4_t sum[4][V];
  UNROLL
  for (int p = 0; p < 4; ++p) {
    UNROLL
    for (int v = 0; v < V; ++v) sum[p][v] = vdupq_n_f32(0.0f);
  }
  for (; values != values_end; values += 4, columns += 4) {
    const float32x4_t four = vld1q_f32(values);
    multiply_nonzero<V, 0>(four, columns, xt, sum[0]);
    multiply_nonzero<V, 1>(four, columns, xt, sum[1]);
    multiply_nonzero<V, 2>(four, columns, xt, sum[2]);
    multiply_nonzero<V, 3>(four, columns, xt, sum[3]);
  }
  UNROLL
  for (int v = 0; v < V; ++v)
    vst1q_f32(sums + 4 * v, vaddq_f32(vaddq_f32(sum[0][v], sum[1][v]), vaddq_f32(sum[2][v], sum[3][v])));
}

// Up to 4*V tokens.
template <int V, class Column>
void run_tile(const LinearTask& task, const View& view, const Column* columns, std::int64_t token, std::int64_t valid) {
  constexpr std::int64_t kWidth = 4 * V;
  float* xt = static_cast<float*>(task.scratch);
  float* sums = xt + view.k * kWidth;
  const float* x = static_cast<const float*>(task.x) + token * task.ldx;
  for (std::int64_t t = 0; t < valid; t += 4) transpose_x(x + t * task.ldx, task.ldx, valid - t, view.k, xt + t, kWidth);

  const std::int64_t end = task.unit_end * kUnit < view.n ? task.unit_end * kUnit : view.n;
  for (std::int64_t row = task.unit_begin * kUnit; row < end; row += kUnit) {
    const std::int64_t rows = end - row < kUnit ? end - row : kUnit;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t begin = view.row_begin[row + r];
      multiply_row<V>(view.values + begin, columns + begin, view.values + view.row_begin[row + r + 1], xt, sums + r * kWidth);
    }
    for (std::int64_t t = 0; t < valid; t += 4)
      store_y(sums + t, kWidth, rows, row, valid - t, task.bias, task.y + (token + t) * task.ldy, task.ldy);
  }
}

// One token: its four x of a step are collected by loads into lanes.
template <class Column>
void run_one(const LinearTask& task, const View& view, const Column* columns, std::int64_t token) {
  const float* x = static_cast<const float*>(task.x) + token * task.ldx;
  const std::int64_t end = task.unit_end * kUnit < view.n ? task.unit_end * kUnit : view.n;
  for (std::int64_t row = task.unit_begin * kUnit; row < end; ++row) {
    float32x4_t sum = vdupq_n_f32(0.0f);
    for (std::int64_t i = view.row_begin[row]; i < view.row_begin[row + 1]; i += 4) {
      float32x4_t four = vld1q_dup_f32(x + columns[i]);
      four = vld1q_lane_f32(x + columns[i + 1], four, 1);
      four = vld1q_lane_f32(x + columns[i + 2], four, 2);
      four = vld1q_lane_f32(x + columns[i + 3], four, 3);
      sum = vfmaq_f32(sum, vld1q_f32(view.values + i), four);
    }
    const float total = vaddvq_f32(sum);
    task.y[token * task.ldy + row] = task.bias == nullptr ? total : total + task.bias[row];
  }
}

// The widest tile first; what is left goes to the narrowest that holds it.
template <class Column>
void run(const LinearTask& task, const View& view, const Column* columns) {
  std::int64_t token = 0;
  while (token < task.m) {
    const std::int64_t left = task.m - token;
    if (left == 1) {
      run_one(task, view, columns, token);
      token += 1;
    } else if (left <= 4) {
      run_tile<1>(task, view, columns, token, left);
      token += left;
    } else if (left <= 8) {
      run_tile<2>(task, view, columns, token, left);
      token += left;
    } else {
      const std::int64_t valid = left < 16 ? left : 16;
      run_tile<4>(task, view, columns, token, valid);
      token += valid;
    }
  }
}

}  // namespace

void run_csr_f32_neon(const LinearTask& task) {
  const auto& view = *static_cast<const View*>(task.weight);
  view.columns16 != nullptr ? run(task, view, view.columns16) : run(task, view, view.columns32);
}

}  // namespace aerogel
