// blocks_q8 on AVX2: one block is a broadcast of four weights times registers of 8 tokens x 4 activations.
//
// sign, maddubs, madd, add: four vector instructions for 32 useful products, as many as the dense kernel's, two of them on the
// two multiply ports: 32 products a cycle are the limit, and the zeros come free. |w| is the unsigned factor and x with the
// sign of w the signed one, so that nothing saturates: 2 * 127 * 127 = 32258.
//
// Unsigned x, without the sign instruction, needs pairs of weights that cannot saturate, and so a second block for 10/23/38 %
// of Gaussian blocks at 50/80/90 % sparsity; vpmaddwd on 16-bit tiles has the same limit and twice the loads.
#include <immintrin.h>

#include "linear/blocks_q8/layout.h"
#include "linear/rows8_avx2.h"

namespace aerogel {
namespace {

// The tile that layout.h draws, of `groups` times 8 tokens of which `count` exist; the others repeat the last one, their sums
// are not used.
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t groups, std::int64_t padded_k,
                    std::int8_t* tile) {
  for (std::int64_t group = 0; group < groups; ++group) {
    std::int8_t* to = tile + group / 2 * 16 * padded_k + group % 2 * 32;
    const std::int8_t* from[8];
    for (int t = 0; t < 8; ++t) from[t] = x + (8 * group + t < count ? 8 * group + t : count - 1) * ldx;
    for (std::int64_t k = 0; k < padded_k; k += 32, to += 8 * 64) {
      __m256i block[8];
      transpose8([&](int t) { return load(from[t] + k); }, block);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) store(to + 64 * i, block[i]);
    }
  }
}

inline __m256i add_products(__m256i s, const std::int8_t* x, __m256i w, __m256i magnitude) {
  const __m256i products = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(load(x), w));
  return _mm256_add_epi32(s, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}

// One row, one chunk: sums[8 R] = or += the products of its blocks, for R groups of 8 tokens. `second`: the second subtile.
// Sums with names and not inlined: otherwise GCC 12 keeps them in memory.
template <int R>
__attribute__((noinline)) void add_row(const std::int8_t* tile, const std::int8_t* second, const Block* block, const Block* end,
                                       bool first, std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  if (!first) {
    s0 = load(sums);
    if (R > 1) s1 = load(sums + 8);
    if (R > 2) s2 = load(sums + 16);
    if (R > 3) s3 = load(sums + 24);
  }
#pragma GCC unroll 4  // with 8 tokens the six micro-operations that a cycle may issue are the limit
  for (; block != end; ++block) {
    const std::size_t column = std::size_t{block->column} * 8;
    const __m256i w = broadcast4(block->weight), magnitude = _mm256_abs_epi8(w);
    s0 = add_products(s0, tile + column, w, magnitude);
    if (R > 1) s1 = add_products(s1, tile + column + 32, w, magnitude);
    if (R > 2) s2 = add_products(s2, second + column, w, magnitude);
    if (R > 3) s3 = add_products(s3, second + column + 32, w, magnitude);
  }
  store(sums, s0);
  if (R > 1) store(sums + 8, s1);
  if (R > 2) store(sums + 16, s2);
  if (R > 3) store(sums + 24, s3);
}

// Turns the sums of rows n .. n + 7 round, 8 tokens at a time, and writes tokens [t, t_end).
void write_tile(const LinearTask& task, const BlocksView& v, const std::int32_t* sums, std::int64_t stride, std::int64_t n,
                std::int64_t t, std::int64_t t_end) {
  const Writer write(task, v, n);
  for (; t < t_end; t += 8, sums += 8) {
    __m256i sum[8];
    transpose8(sums, stride, sum);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      if (t + j < t_end) write(t + j, sum[j]);
  }
}

// Tokens [t, t_end), at most 8 R, of all units of the task.
template <int R>
void run_tile(const LinearTask& task, const BlocksView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = blocks_padded_k(v.k);
  auto* tile = static_cast<std::int8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * kBlocksAvx2Tokens);
  transpose_tile(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, R, padded_k, tile);
  const std::int64_t row_end = task.unit_end * kBlocksRows < v.n ? task.unit_end * kBlocksRows : v.n;
  // With several chunks, one is used for a set of rows before the next takes its place in L1.
  const std::int64_t step = v.chunks == 1 ? kBlocksRows : kBlocksSetRows;
  for (std::int64_t n = task.unit_begin * kBlocksRows; n < row_end; n += step) {
    const std::int64_t rows = row_end - n < step ? row_end - n : step;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::int8_t* columns = tile + chunk * v.chunk * 16;
      const std::uint32_t* begin = v.begin + chunk * v.n + n;
      for (std::int64_t r = 0; r < rows; ++r)
        add_row<R>(columns, columns + padded_k * 16, v.blocks + begin[r], v.blocks + begin[r + 1], chunk == 0, sums + r * 8 * R);
    }
    // Behind the last row stand leftovers, which go nowhere.
    for (std::int64_t r = 0; r < rows; r += 8) write_tile(task, v, sums + r * 8 * R, 8 * R, n + r, t, t_end);
  }
}

}  // namespace

void run_blocks_q8_avx2(const LinearTask& task) {
  const auto& v = *static_cast<const BlocksView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += 32) {
    const std::int64_t left = task.m - t;
    if (left > 24)
      run_tile<4>(task, v, t, left < 32 ? task.m : t + 32);
    else if (left > 16)
      run_tile<3>(task, v, t, task.m);
    else if (left > 8)
      run_tile<2>(task, v, t, task.m);
    else
      run_tile<1>(task, v, t, task.m);
  }
}

}  // namespace aerogel
