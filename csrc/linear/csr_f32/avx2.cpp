// Bound by loads, of which Zen 3 sustained two a cycle, those of columns included: a step of 4 nonzeros times 16 tokens is 8 FMAs
// that each read xt, one load of the values, shuffled into place, and one of the columns: 5 cycles; 7.5 to 8.3 measured at 768
// columns. xt is 64 bytes a column: beyond 500 columns it comes from L2, and the larger it is the less is gained.
// Times faster than dense_f32 on one Zen 3 thread of a busy machine (alternating calls, shortest of each), at 80/90/95 %:
//     128 tokens  768x768  2.5/5.2/10   3072x768  2.6/4.8/7.5   768x3072  2.2/4.2/6.5 (outputs x inputs)
//      16 tokens  768x768  3.3/5.7/9.7  3072x768  4.1/6.6/12    768x3072  3.5/8.1/14, where dense_f32 waits for its weights
//       1 token   768x768  0.8/1.6/2.8
// Tried at 768x768 and not kept: tiles of 32 tokens (0.92 to 1.1x of the speed), of 24 (0.87 to 1.06x; 0.74x with 3072 columns) and
// of 12 or 20 (slower than the next wider); passes over 400 columns (1.01 to 1.03x), over 256 and fewer (0.7 to 0.98x); columns
// stored as byte offsets (1.03x).
#include <immintrin.h>

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

constexpr std::int64_t kAhead = 4096;  // nonzeros: 16 KB of values, where one token streams them from memory
constexpr int kStep = static_cast<int>(csr_f32::kStep);

// 8 rows of 8 floats become 8 columns.
inline void transpose8(__m256 r[8]) {
  __m256 a[8], b[8];
  UNROLL
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  UNROLL
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  UNROLL
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

inline __m256i lane_mask(std::int64_t lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// xt[k][width], lanes 0..7 of it: 8 tokens of x. Lanes beyond `valid` repeat the last token and are never stored.
void transpose_x(const float* x, std::int64_t ldx, std::int64_t valid, std::int64_t k, float* xt, std::int64_t width) {
  const float* row[8];
  for (int t = 0; t < 8; ++t) row[t] = x + (t < valid ? t : valid - 1) * ldx;
  std::int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    __m256 r[8];
    UNROLL
    for (int t = 0; t < 8; ++t) r[t] = _mm256_loadu_ps(row[t] + i);
    transpose8(r);
    UNROLL
    for (int j = 0; j < 8; ++j) _mm256_store_ps(xt + (i + j) * width, r[j]);
  }
  for (; i < k; ++i)
    for (int t = 0; t < 8; ++t) xt[i * width + t] = row[t][i];
}

// sums[rows][width], lanes 0..7 of it, to 8 tokens of y from output `row` on.
void store_y(const float* sums, std::int64_t width, std::int64_t rows, std::int64_t row, std::int64_t valid,
             const float* bias, float* y, std::int64_t ldy) {
  for (std::int64_t n = 0; n < rows; n += 8) {
    __m256 r[8];
    UNROLL
    for (int j = 0; j < 8; ++j) r[j] = _mm256_load_ps(sums + (n + j) * width);
    transpose8(r);
    float* out = y + row + n;
    if (n + 8 <= rows) {
      const __m256 b = bias == nullptr ? _mm256_setzero_ps() : _mm256_loadu_ps(bias + row + n);
      UNROLL
      for (int t = 0; t < 8; ++t)
        if (t < valid) _mm256_storeu_ps(out + t * ldy, _mm256_add_ps(r[t], b));
    } else {
      const __m256i mask = lane_mask(rows - n);
      const __m256 b = bias == nullptr ? _mm256_setzero_ps() : _mm256_maskload_ps(bias + row + n, mask);
      UNROLL
      for (int t = 0; t < 8; ++t)
        if (t < valid) _mm256_maskstore_ps(out + t * ldy, mask, _mm256_add_ps(r[t], b));
    }
  }
}

// The columns of a step by one load where they are 16-bit: loads bound the loops, and shifts are free beside them.
inline void load_columns(const std::uint16_t* columns, std::size_t out[kStep]) {
  static_assert(kStep == 4, "a word of 64 bits");
  std::uint64_t word;
  __builtin_memcpy(&word, columns, sizeof word);
  UNROLL
  for (int p = 0; p < kStep; ++p) out[p] = static_cast<std::uint16_t>(word >> (16 * p));
}

inline void load_columns(const std::uint32_t* columns, std::size_t out[kStep]) {
  UNROLL
  for (int p = 0; p < kStep; ++p) out[p] = columns[p];
}

// sums[8*V tokens] of one row. Each of the kStep nonzeros of a step has its own sums, or FMA latency would bound them.
template <int V, class Column>
inline void multiply_row(const float* values, const Column* columns, const float* values_end, const float* xt, float* sums) {
  __m256 sum[kStep][V];
  UNROLL
  for (int p = 0; p < kStep; ++p) {
    UNROLL
    for (int v = 0; v < V; ++v) sum[p][v] = _mm256_setzero_ps();
  }
  for (; values != values_end; values += kStep, columns += kStep) {
    // One load for four values: shuffles leave the load ports to xt. Compilers would make four loads of it again.
    __m256 four = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(values));
    __asm__("" : "+x"(four));
    const __m256 value[kStep] = {_mm256_permute_ps(four, 0x00), _mm256_permute_ps(four, 0x55), _mm256_permute_ps(four, 0xaa),
                                 _mm256_permute_ps(four, 0xff)};
    std::size_t column[kStep];
    load_columns(columns, column);
    UNROLL
    for (int p = 0; p < kStep; ++p) {
      const float* x = xt + column[p] * (8 * V);
      UNROLL
      for (int v = 0; v < V; ++v) sum[p][v] = _mm256_fmadd_ps(value[p], _mm256_load_ps(x + 8 * v), sum[p][v]);
    }
  }
  UNROLL
  for (int v = 0; v < V; ++v)
    _mm256_store_ps(sums + 8 * v,
                    _mm256_add_ps(_mm256_add_ps(sum[0][v], sum[1][v]), _mm256_add_ps(sum[2][v], sum[3][v])));
}

// Up to 8*V tokens.
template <int V, class Column>
void run_tile(const LinearTask& task, const View& view, const Column* columns, std::int64_t token, std::int64_t valid) {
  constexpr std::int64_t kWidth = 8 * V;
  float* xt = static_cast<float*>(task.scratch);
  float* sums = xt + view.k * kWidth;
  const float* x = static_cast<const float*>(task.x) + token * task.ldx;
  for (std::int64_t t = 0; t < valid; t += 8) transpose_x(x + t * task.ldx, task.ldx, valid - t, view.k, xt + t, kWidth);

  const std::int64_t end = task.unit_end * kUnit < view.n ? task.unit_end * kUnit : view.n;
  for (std::int64_t row = task.unit_begin * kUnit; row < end; row += kUnit) {
    const std::int64_t rows = end - row < kUnit ? end - row : kUnit;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t begin = view.row_begin[row + r];
      multiply_row<V>(view.values + begin, columns + begin, view.values + view.row_begin[row + r + 1], xt, sums + r * kWidth);
    }
    for (std::int64_t t = 0; t < valid; t += 8)
      store_y(sums + t, kWidth, rows, row, valid - t, task.bias, task.y + (token + t) * task.ldy, task.ldy);
  }
}

// The same for 4 tokens.
template <class Column>
inline void multiply_row4(const float* values, const Column* columns, const float* values_end, const float* xt, float* sums) {
  __m128 sum[kStep] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
  for (; values != values_end; values += kStep, columns += kStep) {
    __m128 four = _mm_load_ps(values);
    __asm__("" : "+x"(four));
    const __m128 value[kStep] = {_mm_permute_ps(four, 0x00), _mm_permute_ps(four, 0x55), _mm_permute_ps(four, 0xaa),
                                 _mm_permute_ps(four, 0xff)};
    UNROLL
    for (int p = 0; p < kStep; ++p)
      sum[p] = _mm_fmadd_ps(value[p], _mm_load_ps(xt + static_cast<std::size_t>(columns[p]) * 4), sum[p]);
  }
  _mm_store_ps(sums, _mm_add_ps(_mm_add_ps(sum[0], sum[1]), _mm_add_ps(sum[2], sum[3])));
}

// Two to four tokens.
template <class Column>
void run_four(const LinearTask& task, const View& view, const Column* columns, std::int64_t token, std::int64_t valid) {
  float* xt = static_cast<float*>(task.scratch);
  alignas(16) float sums[16] = {};
  const float* x[4];
  for (int t = 0; t < 4; ++t)
    x[t] = static_cast<const float*>(task.x) + (token + (t < valid ? t : valid - 1)) * task.ldx;
  std::int64_t k = 0;
  for (; k + 4 <= view.k; k += 4) {
    __m128 a = _mm_loadu_ps(x[0] + k), b = _mm_loadu_ps(x[1] + k), c = _mm_loadu_ps(x[2] + k), d = _mm_loadu_ps(x[3] + k);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_store_ps(xt + 4 * k, a);
    _mm_store_ps(xt + 4 * k + 4, b);
    _mm_store_ps(xt + 4 * k + 8, c);
    _mm_store_ps(xt + 4 * k + 12, d);
  }
  for (; k < view.k; ++k)
    for (int t = 0; t < 4; ++t) xt[4 * k + t] = x[t][k];

  const std::int64_t end = task.unit_end * kUnit < view.n ? task.unit_end * kUnit : view.n;
  for (std::int64_t row = task.unit_begin * kUnit; row < end; row += 4) {
    const std::int64_t rows = end - row < 4 ? end - row : 4;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t begin = view.row_begin[row + r];
      multiply_row4(view.values + begin, columns + begin, view.values + view.row_begin[row + r + 1], xt, sums + 4 * r);
    }
    __m128 a = _mm_load_ps(sums), b = _mm_load_ps(sums + 4), c = _mm_load_ps(sums + 8), d = _mm_load_ps(sums + 12);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    const __m128 of_token[4] = {a, b, c, d};
    const __m128i mask = _mm256_castsi256_si128(lane_mask(rows));
    const __m128 bias = task.bias == nullptr ? _mm_setzero_ps() : _mm_maskload_ps(task.bias + row, mask);
    UNROLL
    for (int t = 0; t < 4; ++t)
      if (t < valid) _mm_maskstore_ps(task.y + (token + t) * task.ldy + row, mask, _mm_add_ps(of_token[t], bias));
  }
}

// Four products of one token.
template <class Column>
inline __m128 multiply_step(const float* values, const Column* columns, const float* x, __m128 sum) {
  std::size_t column[kStep];
  load_columns(columns, column);
  __m128 four = _mm_load_ss(x + column[0]);
  four = _mm_insert_ps(four, _mm_load_ss(x + column[1]), 0x10);
  four = _mm_insert_ps(four, _mm_load_ss(x + column[2]), 0x20);
  four = _mm_insert_ps(four, _mm_load_ss(x + column[3]), 0x30);
  return _mm_fmadd_ps(_mm_load_ps(values), four, sum);
}

// One token: its four x of a step are collected by loads, which a gather instruction is slower than. The prefetch gave
// 1.2 to 1.7x at 4096x4096 and 80 %, and 0.9x at 95 %, where the last-level cache holds the weights.
template <class Column>
void run_one(const LinearTask& task, const View& view, const Column* columns, std::int64_t token) {
  const float* x = static_cast<const float*>(task.x) + token * task.ldx;
  const std::int64_t end = task.unit_end * kUnit < view.n ? task.unit_end * kUnit : view.n;
  for (std::int64_t row = task.unit_begin * kUnit; row < end; ++row) {
    __m128 even = _mm_setzero_ps(), odd = _mm_setzero_ps();
    std::int64_t i = view.row_begin[row];
    const std::int64_t stop = view.row_begin[row + 1];
    for (; i + 2 * kStep <= stop; i += 2 * kStep) {
      _mm_prefetch(reinterpret_cast<const char*>(view.values + i + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(columns + i + kAhead), _MM_HINT_T0);
      even = multiply_step(view.values + i, columns + i, x, even);
      odd = multiply_step(view.values + i + kStep, columns + i + kStep, x, odd);
    }
    if (i < stop) even = multiply_step(view.values + i, columns + i, x, even);
    even = _mm_add_ps(even, odd);
    even = _mm_add_ps(even, _mm_movehl_ps(even, even));
    const float total = _mm_cvtss_f32(_mm_add_ss(even, _mm_movehdup_ps(even)));
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
      run_four(task, view, columns, token, left);
      token += left;
    } else if (left <= 8) {
      run_tile<1>(task, view, columns, token, left);
      token += left;
    } else {
      const std::int64_t valid = left < 16 ? left : 16;
      run_tile<2>(task, view, columns, token, valid);
      token += valid;
    }
  }
}

}  // namespace

void run_csr_f32_avx2(const LinearTask& task) {
  const auto& view = *static_cast<const View*>(task.weight);
  view.columns16 != nullptr ? run(task, view, view.columns16) : run(task, view, view.columns32);
}

}  // namespace aerogel
