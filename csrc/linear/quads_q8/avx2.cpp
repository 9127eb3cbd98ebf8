// quads_q8 on AVX2: a tile of 32 or 16 tokens is transposed once to [K][tokens]; tokens on the lanes.
//
// For 32 tokens a quad costs 8 unpacks, 4 maddubs, 4 madd and 4 adds: 20 vector instructions for 128 useful products
// whatever the pattern; a light pair of quads, which adds in 16 bits before the madd, 36 for 256. Four vector pipes, two
// of them for the unpacks: 25.6 and 28.4 products a cycle are the limits, where the dense kernel's is 32.
//
// For 16 tokens two quads stand in the two halves of a register: 25 instructions for 128 products, a tail that costs
// little more than its share.
#include <immintrin.h>

#include "linear/quads_q8/layout.h"
#include "linear/rows8_avx2.h"

namespace aerogel {
namespace {

constexpr std::int64_t kWrittenRows = 32;  // whose sums wait to be written together, where they are not waited for anyway

// tile[k][W] = x[token][k] + 128 for W tokens of which `count` exist; the others repeat the last one, their sums are not
// used.
//
// 16 columns of 16 or 32 tokens: token t in the low half of register t, token t + 16 in the high one.
template <int W>
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t padded_k, std::uint8_t* tile) {
  const __m256i flip = _mm256_set1_epi8(-128);
  for (std::int64_t k = 0; k < padded_k; k += 16) {
    __m256i a[16];
    for (int t = 0; t < 16; ++t) {
      const std::int64_t low = t < count ? t : count - 1, high = t + 16 < count ? t + 16 : count - 1;
      const __m128i l = _mm_load_si128(reinterpret_cast<const __m128i*>(x + low * ldx + k));
      a[t] = _mm256_castsi128_si256(l);
      if (W == 32) a[t] = _mm256_inserti128_si256(a[t], _mm_load_si128(reinterpret_cast<const __m128i*>(x + high * ldx + k)), 1);
    }
    transpose_bytes(a);
    for (int i = 0; i < 16; ++i) {
      const __m256i column = _mm256_xor_si256(a[i], flip);
      if (W == 32)
        store(tile + (k + i) * 32, column);
      else
        _mm_store_si128(reinterpret_cast<__m128i*>(tile + (k + i) * 16), _mm256_castsi256_si128(column));
    }
  }
}

// The products of a quad's four activations and weights, in pairs. Register i holds tokens 4i .. 4i + 3 of each half.
struct Pairs {
  __m256i p0, p1, p2, p3;
};

inline Pairs multiply(__m256i x0, __m256i x1, __m256i x2, __m256i x3, __m256i w) {
  const __m256i low01 = _mm256_unpacklo_epi8(x0, x1), low23 = _mm256_unpacklo_epi8(x2, x3);
  const __m256i high01 = _mm256_unpackhi_epi8(x0, x1), high23 = _mm256_unpackhi_epi8(x2, x3);
  return {_mm256_maddubs_epi16(_mm256_unpacklo_epi16(low01, low23), w), _mm256_maddubs_epi16(_mm256_unpackhi_epi16(low01, low23), w),
          _mm256_maddubs_epi16(_mm256_unpacklo_epi16(high01, high23), w), _mm256_maddubs_epi16(_mm256_unpackhi_epi16(high01, high23), w)};
}

// Columns are stored times 8, so that the rest of the stride is a factor of the address.
inline Pairs multiply32(const std::uint8_t* tile, const Quad& quad) {
  const std::size_t c0 = quad.column[0], c1 = quad.column[1], c2 = quad.column[2], c3 = quad.column[3];
  return multiply(load(tile + 4 * c0), load(tile + 4 * c1), load(tile + 4 * c2), load(tile + 4 * c3), broadcast4(quad.weight));
}

inline __m256i two_columns(const std::uint8_t* tile, std::size_t low, std::size_t high) {
  const __m128i a = _mm_load_si128(reinterpret_cast<const __m128i*>(tile + 2 * low));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(a), _mm_load_si128(reinterpret_cast<const __m128i*>(tile + 2 * high)), 1);
}

inline Pairs multiply16(const std::uint8_t* tile, const Quad& a, const Quad& b, __m256i w) {
  return multiply(two_columns(tile, a.column[0], b.column[0]), two_columns(tile, a.column[1], b.column[1]),
                  two_columns(tile, a.column[2], b.column[2]), two_columns(tile, a.column[3], b.column[3]), w);
}

inline __m256i add_pairs(__m256i s, __m256i pairs) {
  return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// The compiler must not mix what stands before with what stands behind: 16 registers are just enough for one of them.
inline void keep_apart(Pairs& p) { __asm__ volatile("" : "+x"(p.p0), "+x"(p.p1), "+x"(p.p2), "+x"(p.p3)); }

// One row, one chunk: sums[32] = or += the products of its quads. Sums with names and not inlined: otherwise GCC 12 keeps
// them in memory.
__attribute__((noinline)) void add_row32(const std::uint8_t* tile, const Quad* quad, const Quad* light, const Quad* end,
                                         bool first, std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  if (!first) s0 = load(sums), s1 = load(sums + 8), s2 = load(sums + 16), s3 = load(sums + 24);
  for (; quad != light; quad += 2) {
    Pairs a = multiply32(tile, quad[0]);
    keep_apart(a);
    const Pairs b = multiply32(tile, quad[1]);
    s0 = add_pairs(s0, _mm256_add_epi16(a.p0, b.p0));
    s1 = add_pairs(s1, _mm256_add_epi16(a.p1, b.p1));
    s2 = add_pairs(s2, _mm256_add_epi16(a.p2, b.p2));
    s3 = add_pairs(s3, _mm256_add_epi16(a.p3, b.p3));
  }
  for (; quad != end; ++quad) {
    const Pairs a = multiply32(tile, *quad);
    s0 = add_pairs(s0, a.p0);
    s1 = add_pairs(s1, a.p1);
    s2 = add_pairs(s2, a.p2);
    s3 = add_pairs(s3, a.p3);
  }
  store(sums, s0), store(sums + 8, s1), store(sums + 16, s2), store(sums + 24, s3);
}

inline __m256i add_halves_to(const std::int32_t* sums, bool first, __m256i a, __m256i b) {
  const __m256i both = _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
  return first ? both : _mm256_add_epi32(both, load(sums));
}

// The same for 16 tokens: every quad is one whose pairs cannot saturate, the light ones too.
__attribute__((noinline)) void add_row16(const std::uint8_t* tile, const Quad* quad, const Quad* end, bool first,
                                         std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  for (; end - quad >= 2; quad += 2) {
    const __m256i w = _mm256_blend_epi32(broadcast4(quad[0].weight), broadcast4(quad[1].weight), 0xF0);
    const Pairs a = multiply16(tile, quad[0], quad[1], w);
    s0 = add_pairs(s0, a.p0);
    s1 = add_pairs(s1, a.p1);
    s2 = add_pairs(s2, a.p2);
    s3 = add_pairs(s3, a.p3);
  }
  if (quad != end) {
    const __m256i w = _mm256_blend_epi32(broadcast4(quad[0].weight), _mm256_setzero_si256(), 0xF0);
    const Pairs a = multiply16(tile, quad[0], quad[0], w);
    s0 = add_pairs(s0, a.p0);
    s1 = add_pairs(s1, a.p1);
    s2 = add_pairs(s2, a.p2);
    s3 = add_pairs(s3, a.p3);
  }
  store(sums, add_halves_to(sums, first, s0, s1));
  store(sums + 8, add_halves_to(sums + 8, first, s2, s3));
}

// Turns the sums of `rows` rows from n on round, 8 tokens at a time, and writes tokens [t, t_end). Rows inside: eight of them are
// half a line of y, and where the stride of y maps tokens to few sets of L1, lines that are left half written would be thrown out.
template <int W>
void write_tile(const LinearTask& task, const QuadsView& v, const std::int32_t* sums, std::int64_t n, std::int64_t rows,
                std::int64_t t, std::int64_t t_end) {
  constexpr int far = W == 32 ? 12 : 0;  // 32: tokens first .. + 3 and first + 16 .. + 19; 16: first .. + 7
  for (int i = 0; i < W / 8; ++i, sums += 8) {
    const std::int64_t first = t + i * (W == 32 ? 4 : 8);
    if (first >= t_end) return;
    for (std::int64_t r = 0; r < rows; r += 8) {  // behind the last row stand leftovers, which go nowhere
      const Writer write(task, v, n + r);
      const __m256i offset = load(v.offset + n + r);
      __m256i sum[8];
      transpose8(sums + r * W, W, sum);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const std::int64_t token = first + (j < 4 ? j : far + j);
        if (token < t_end) write(token, _mm256_sub_epi32(sum[j], offset));
      }
    }
  }
}

// Tokens [t, t_end), at most W of them, of all units of the task.
template <int W>
void run_tile(const LinearTask& task, const QuadsView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = quads_padded_k(v.k);
  auto* tile = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * W);
  transpose_tile<W>(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, padded_k, tile);
  const std::int64_t row_end = task.unit_end * kQuadsRows < v.n ? task.unit_end * kQuadsRows : v.n;
  // With several chunks, one is used for a set of rows before the next takes its place in L1.
  const std::int64_t step = v.chunks == 1 ? kWrittenRows : kQuadsAvx2SetRows;
  for (std::int64_t n = task.unit_begin * kQuadsRows; n < row_end; n += step) {
    const std::int64_t rows = row_end - n < step ? row_end - n : step;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::uint8_t* columns = tile + chunk * v.chunk * W;
      const std::uint32_t* begin = v.begin + chunk * v.n + n;
      const std::uint32_t* light = v.light + chunk * v.n + n;
      for (std::int64_t r = 0; r < rows; ++r) {
        if (W == 32)
          add_row32(columns, v.quads + begin[r], v.quads + light[r], v.quads + begin[r + 1], chunk == 0, sums + r * W);
        else
          add_row16(columns, v.quads + begin[r], v.quads + begin[r + 1], chunk == 0, sums + r * W);
      }
    }
    write_tile<W>(task, v, sums, n, rows, t, t_end);
  }
}

}  // namespace

void run_quads_q8_avx2(const LinearTask& task) {
  const auto& v = *static_cast<const QuadsView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += 32) {
    if (task.m - t > 16)
      run_tile<32>(task, v, t, task.m - t < 32 ? task.m : t + 32);
    else
      run_tile<16>(task, v, t, task.m);
  }
}

}  // namespace aerogel
