// quads_q8 on AVX2: a tile of 32 tokens is transposed once to [K][tokens]; tokens on the lanes.
//
// For 32 tokens a quad costs 8 unpacks, 4 maddubs, 4 madd and 4 adds: 20 vector instructions for 128 useful products
// whatever the pattern; a light pair of quads, which adds in 16 bits before the madd, 36 for 256. Four vector pipes, two
// of them for the unpacks: 25.6 and 28.4 products a cycle are the limits, where the dense kernel's is 32.
//
// Fewer tokens cost less, 8 at a time: two light quads take 27 instructions for 24 tokens, 18 for 16 and 11 for 8. As many loads as
// for 32 are left: .9, .66 and .58 of the time at 80 %.
#include <immintrin.h>

#include <cstring>

#include "linear/quads_q8/layout.h"
#include "linear/rows8_avx2.h"

namespace aerogel {
namespace {

// The token of a tile that stands in byte `at` of a half of a column. Unpacking bytes, then pairs of them, brings tokens 0 .. 7 into
// one register, in order, 8 .. 15 into the next, and so on: few tokens need few of them.
inline std::int64_t token_at(int at, int half) { return at % 4 + at / 4 * 8 + 4 * half; }

// tile[k][32] = x[token][k] + 128, of which `count` tokens exist; the others repeat the last one, their sums are not used.
//
// 16 columns: a token in each half of each of 16 registers.
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t padded_k, std::uint8_t* tile) {
  const __m256i flip = _mm256_set1_epi8(-128);
  const std::int8_t *low[16], *high[16];
  for (int i = 0; i < 16; ++i) {
    const std::int64_t l = token_at(i, 0), h = token_at(i, 1);
    low[i] = x + (l < count ? l : count - 1) * ldx;
    high[i] = x + (h < count ? h : count - 1) * ldx;
  }
  for (std::int64_t k = 0; k < padded_k; k += 16) {
    __m256i a[16];
    for (int i = 0; i < 16; ++i) {
      const __m128i l = _mm_load_si128(reinterpret_cast<const __m128i*>(low[i] + k));
      a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(l), _mm_load_si128(reinterpret_cast<const __m128i*>(high[i] + k)), 1);
    }
    transpose_bytes(a);
    for (int i = 0; i < 16; ++i) store(tile + (k + i) * 32, _mm256_xor_si256(a[i], flip));
  }
}

// The products of a quad's four activations and weights, in pairs. Register i holds tokens 8i .. 8i + 7.
struct Pairs {
  __m256i p0, p1, p2, p3;
};

// For G groups of 8 tokens. Columns are stored times 8, so that the rest of the stride is a factor of the address.
template <int G>
inline Pairs multiply(const std::uint8_t* tile, const Quad& quad) {
  std::uint64_t word;  // one load and shifts for four loads: few tokens are bound by loads
  if (G < 3) std::memcpy(&word, quad.column, 8);
  const std::size_t c0 = G < 3 ? word & 0xffff : quad.column[0], c1 = G < 3 ? word >> 16 & 0xffff : quad.column[1];
  const std::size_t c2 = G < 3 ? word >> 32 & 0xffff : quad.column[2], c3 = G < 3 ? word >> 48 : quad.column[3];
  const __m256i x0 = load(tile + 4 * c0), x1 = load(tile + 4 * c1), x2 = load(tile + 4 * c2), x3 = load(tile + 4 * c3);
  const __m256i w = broadcast4(quad.weight);
  const __m256i low01 = _mm256_unpacklo_epi8(x0, x1), low23 = _mm256_unpacklo_epi8(x2, x3);
  const __m256i high01 = _mm256_unpackhi_epi8(x0, x1), high23 = _mm256_unpackhi_epi8(x2, x3);
  return {_mm256_maddubs_epi16(_mm256_unpacklo_epi16(low01, low23), w), _mm256_maddubs_epi16(_mm256_unpackhi_epi16(low01, low23), w),
          _mm256_maddubs_epi16(_mm256_unpacklo_epi16(high01, high23), w), _mm256_maddubs_epi16(_mm256_unpackhi_epi16(high01, high23), w)};
}

inline __m256i add_pairs(__m256i s, __m256i pairs) {
  return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// The compiler must not mix what stands before with what stands behind: 16 registers are just enough for one of them.
inline void keep_apart(Pairs& p) { __asm__ volatile("" : "+x"(p.p0), "+x"(p.p1), "+x"(p.p2), "+x"(p.p3)); }

// One row, one chunk: sums[8 G] = or += the products of its quads. Sums with names and not inlined: otherwise GCC 12 keeps
// them in memory.
template <int G>
__attribute__((noinline)) void add_row(const std::uint8_t* tile, const Quad* quad, const Quad* light, const Quad* end,
                                       bool first, std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  if (!first) {
    s0 = load(sums);
    if (G > 1) s1 = load(sums + 8);
    if (G > 2) s2 = load(sums + 16);
    if (G > 3) s3 = load(sums + 24);
  }
  for (; quad != light; quad += 2) {
    Pairs a = multiply<G>(tile, quad[0]);
    if (G == 4) keep_apart(a);
    const Pairs b = multiply<G>(tile, quad[1]);
    s0 = add_pairs(s0, _mm256_add_epi16(a.p0, b.p0));
    if (G > 1) s1 = add_pairs(s1, _mm256_add_epi16(a.p1, b.p1));
    if (G > 2) s2 = add_pairs(s2, _mm256_add_epi16(a.p2, b.p2));
    if (G > 3) s3 = add_pairs(s3, _mm256_add_epi16(a.p3, b.p3));
  }
  for (; quad != end; ++quad) {
    const Pairs a = multiply<G>(tile, *quad);
    s0 = add_pairs(s0, a.p0);
    if (G > 1) s1 = add_pairs(s1, a.p1);
    if (G > 2) s2 = add_pairs(s2, a.p2);
    if (G > 3) s3 = add_pairs(s3, a.p3);
  }
  store(sums, s0);
  if (G > 1) store(sums + 8, s1);
  if (G > 2) store(sums + 16, s2);
  if (G > 3) store(sums + 24, s3);
}

// Turns the sums of `rows` rows from n on round, 8 tokens at a time, and writes tokens [t, t_end). Rows inside: eight of them are
// half a line of y, and where the stride of y maps tokens to few sets of L1, lines that are left half written would be thrown out.
void write_tile(const LinearTask& task, const QuadsView& v, const std::int32_t* sums, std::int64_t n, std::int64_t rows,
                std::int64_t t, std::int64_t t_end) {
  for (; t < t_end; t += 8, sums += 8)
    for (std::int64_t r = 0; r < rows; r += 8) {  // behind the last row stand leftovers, which go nowhere
      const Writer write(task, v, n + r);
      const __m256i offset = load(v.offset + n + r);
      __m256i sum[8];
      transpose8(sums + r * kQuadsAvx2Tokens, kQuadsAvx2Tokens, sum);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j)
        if (t + j < t_end) write(t + j, _mm256_sub_epi32(sum[j], offset));
    }
}

// Tokens [t, t_end), at most 8 G of them, of all units of the task.
template <int G>
void run_tile(const LinearTask& task, const QuadsView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = quads_padded_k(v.k);
  auto* tile = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * kQuadsAvx2Tokens);
  transpose_tile(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, padded_k, tile);
  const std::int64_t row_begin = task.unit_begin * kQuadsRows;
  const std::int64_t row_end = task.unit_end * kQuadsRows < v.n ? task.unit_end * kQuadsRows : v.n;
  // With several chunks, one is used for a set of rows before the next takes its place in L1.
  for (std::int64_t set = row_begin / kQuadsSet * kQuadsSet; set < row_end; set += kQuadsSet) {
    const std::int64_t rows = v.n - set < kQuadsSet ? v.n - set : kQuadsSet;
    const std::int64_t first = set < row_begin ? row_begin - set : 0, end = row_end - set < rows ? row_end - set : rows;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::uint8_t* columns = tile + chunk * v.chunk * kQuadsAvx2Tokens;
      const std::uint32_t* begin = v.begin + chunk * v.n + set;
      const std::uint32_t* light = v.light + chunk * v.n + set;
      const std::uint8_t* row = v.row + chunk * v.n + set;
      for (std::int64_t i = 0; i < rows; ++i)
        if (row[i] >= first && row[i] < end)  // else another task's
          add_row<G>(columns, v.quads + begin[i], v.quads + light[i], v.quads + begin[i + 1], chunk == 0,
                     sums + row[i] * kQuadsAvx2Tokens);
    }
    write_tile(task, v, sums + first * kQuadsAvx2Tokens, set + first, end - first, t, t_end);
  }
}

}  // namespace

void run_quads_q8_avx2(const LinearTask& task) {
  const auto& v = *static_cast<const QuadsView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += kQuadsAvx2Tokens) {
    const std::int64_t left = task.m - t;
    if (left > 24)
      run_tile<4>(task, v, t, left < kQuadsAvx2Tokens ? task.m : t + kQuadsAvx2Tokens);
    else if (left > 16)
      run_tile<3>(task, v, t, task.m);
    else if (left > 8)
      run_tile<2>(task, v, t, task.m);
    else
      run_tile<1>(task, v, t, task.m);
  }
}

}  // namespace aerogel
