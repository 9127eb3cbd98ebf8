// rows_q8 on AVX2: a tile of 32 tokens is transposed once to [K][tokens]; tokens on the lanes.
//
// For a half of the tile, 16 tokens, a quad costs 4 unpacks, and for each row 2 maddubs, 2 madd and 2 adds: 28 vector instructions
// for 256 products of 4 rows, 16 for 128 of 2 (quads_q8, a row at a time, 25 for 128). The two multiply ports are the limit, 32
// products a cycle, as for the dense kernel: zeros come free. A token tile of 8 costs 3 unpacks instead of 4 and half of the rest.
#include <immintrin.h>

#include <cstring>

#include "linear/rows8_avx2.h"
#include "linear/rows_q8/layout.h"

// A loop left rolled would keep the sums in memory.
#define UNROLL _Pragma("GCC unroll 4")

namespace aerogel {
namespace {

using Byte = std::uint8_t;
constexpr std::int64_t kTokens = kRowsTokens, kGroup = 8;

// The token of a tile that stands in byte `at` of a half of a column. Unpacking bytes, then pairs of them, brings tokens 0 .. 7 of
// each 16 into one register in order, and 8 .. 15 into another.
inline std::int64_t token_at(int at, int half) { return at % 4 + at / 4 * 8 + 4 * half; }

// tile[k][32] = x[token][k] + 128, of which `count` tokens exist; the others repeat the last one, their sums are not used.
//
// 16 columns: a token in each half of each of 16 registers.
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t padded_k, Byte* tile) {
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

inline __m256i add_products(__m256i s, __m256i x, __m256i w) {
  return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
}

// One set of R rows, one chunk: sums[R][32] = or += the products of its quads, for G groups of 8 tokens from the first one on or,
// `Second`, from the second half of the tile on. Not inlined: the loop needs most registers.
template <int R, int G, bool Second>
__attribute__((noinline)) void add_set(const std::uint8_t* tile, const std::uint8_t* quad, const std::uint8_t* end, bool first,
                                       std::int32_t* sums) {
  __m256i s[R][G];
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int g = 0; g < G; ++g)
    s[r][g] = first ? _mm256_setzero_si256() : load(sums + 32 * r + 8 * g);
  for (; quad != end; quad += 8 + 4 * R) {
    std::uint16_t column[4];
    std::memcpy(column, quad, 8);
    // Columns are stored times 8, so that the rest of the stride is a factor of the address.
    const __m256i c0 = load(tile + std::size_t{4} * column[0]), c1 = load(tile + std::size_t{4} * column[1]);
    const __m256i c2 = load(tile + std::size_t{4} * column[2]), c3 = load(tile + std::size_t{4} * column[3]);
    UNROLL for (int half = 0; half < (G + 1) / 2; ++half) {
      const bool second = Second || half == 1;
      const __m256i x01 = second ? _mm256_unpackhi_epi8(c0, c1) : _mm256_unpacklo_epi8(c0, c1);
      const __m256i x23 = second ? _mm256_unpackhi_epi8(c2, c3) : _mm256_unpacklo_epi8(c2, c3);
      const __m256i x0 = _mm256_unpacklo_epi16(x01, x23), x1 = _mm256_unpackhi_epi16(x01, x23);
      UNROLL for (int r = 0; r < R; ++r) {
        const __m256i w = broadcast4(quad + 8 + 4 * r);
        s[r][2 * half] = add_products(s[r][2 * half], x0, w);
        if (2 * half + 1 < G) s[r][2 * half + 1] = add_products(s[r][2 * half + 1], x1, w);
      }
    }
  }
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int g = 0; g < G; ++g) store(sums + 32 * r + 8 * g, s[r][g]);
}

// The same for all groups of a tile: eight registers of sums at most.
template <int R>
void add_groups(std::int64_t groups, const std::uint8_t* tile, const std::uint8_t* quad, const std::uint8_t* end, bool first,
                std::int32_t* sums) {
  if (groups == 1) return add_set<R, 1, false>(tile, quad, end, first, sums);
  if constexpr (R == 2) {
    if (groups == 3) return add_set<2, 3, false>(tile, quad, end, first, sums);
    if (groups == 4) return add_set<2, 4, false>(tile, quad, end, first, sums);
  }
  add_set<R, 2, false>(tile, quad, end, first, sums);
  if constexpr (R == 4) {
    if (groups == 3) add_set<4, 1, true>(tile, quad, end, first, sums + 16);
    if (groups == 4) add_set<4, 2, true>(tile, quad, end, first, sums + 16);
  }
}

// Turns the sums of rows n .. n + 7 round, 8 tokens at a time, and writes tokens [t, t_end).
void write_rows(const LinearTask& task, const RowsView& v, const std::int32_t* sums, std::int64_t n, std::int64_t t,
                std::int64_t t_end) {
  const Writer write(task, v, n);
  const __m256i offset = load(v.offset + n);
  for (; t < t_end; t += 8, sums += 8) {
    __m256i sum[8];
    transpose8(sums, 32, sum);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      if (t + j < t_end) write(t + j, _mm256_sub_epi32(sum[j], offset));
  }
}

}  // namespace
}  // namespace aerogel

#include "linear/rows_q8/run.h"

namespace aerogel {

void run_rows_q8_avx2(const LinearTask& task) { run_rows(task); }

}  // namespace aerogel
