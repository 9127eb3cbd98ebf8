// quads_q8 on AVX2: a tile of 32 or 64 tokens is transposed once to [K][tokens]; tokens on the lanes.
//
// For 32 tokens, a quad costs 8 unpacks, 4 maddubs, 4 madd and 4 adds, 20 vector instructions for 128 useful products
// whatever the pattern; an octet, which adds two pairs in 16 bits first, 32 for 256. Zen 3 has two ports for the
// multiplies, two for the unpacks and four for the adds, so that 25.6 and 32 products a cycle are the limits, where the
// dense kernel's is 32. Measured, with the loads and the ends of rows: 22 and 25. Gaussian weights are in octets to
// 96/64/11 % at 50/80/90 % sparsity.
#include <immintrin.h>

#include "linear/quads_q8/layout.h"

namespace aerogel {
namespace {

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// Writes y[t][n .. n + 8) = float(sum) * (x_scale[t] * scale) + bias: fewer behind the last row.
struct Writer {
  __m256 scale, bias;
  __m256i mask;
  bool whole;
  const float* x_scale;
  float* y;
  std::int64_t ldy;

  Writer(const LinearTask& task, const QuadsView& v, std::int64_t n)
      : scale(_mm256_loadu_ps(v.scale + n)), whole(v.n - n >= 8), x_scale(task.x_scale), y(task.y + n), ldy(task.ldy) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(whole ? 8 : static_cast<int>(v.n - n)), lane);
    // Adding -0 changes no bit of any number: "no bias" needs no branch.
    bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, mask) : _mm256_set1_ps(-0.0f);
  }

  void operator()(std::int64_t t, __m256i sum) const {
    const __m256 factor = _mm256_mul_ps(_mm256_broadcast_ss(x_scale + t), scale);
    const __m256 out = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor), bias);
    if (whole)
      _mm256_storeu_ps(y + t * ldy, out);
    else
      _mm256_maskstore_ps(y + t * ldy, mask, out);
  }
};

// out[i] = element i of each of the 8 registers at from, from + stride, ..
inline __attribute__((always_inline)) void transpose8(const std::int32_t* from, std::int64_t stride, __m256i (&out)[8]) {
  __m256i s[8];
#pragma GCC unroll 2
  for (int j = 0; j < 8; j += 4) {
    const __m256i r0 = load(from + j * stride), r1 = load(from + (j + 1) * stride);
    const __m256i r2 = load(from + (j + 2) * stride), r3 = load(from + (j + 3) * stride);
    const __m256i a = _mm256_unpacklo_epi32(r0, r1), b = _mm256_unpackhi_epi32(r0, r1);
    const __m256i c = _mm256_unpacklo_epi32(r2, r3), d = _mm256_unpackhi_epi32(r2, r3);
    s[j] = _mm256_unpacklo_epi64(a, c);
    s[j + 1] = _mm256_unpackhi_epi64(a, c);
    s[j + 2] = _mm256_unpacklo_epi64(b, d);
    s[j + 3] = _mm256_unpackhi_epi64(b, d);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    out[j] = _mm256_permute2x128_si256(s[j], s[j + 4], 0x20);
    out[j + 4] = _mm256_permute2x128_si256(s[j], s[j + 4], 0x31);
  }
}

// tile[k][W] = x[token][k] for W tokens of which `count` exist; the others repeat the last one, their sums are not used.
//
// 16 columns of 32 tokens: token t in the low half of register t, token t + 16 in the high one, then four rounds of
// unpacks, each joining register i with register i + 8, are the byte transpose of both halves.
template <int W>
void transpose_tile(const std::int8_t* x, std::int64_t ldx, std::int64_t count, std::int64_t padded_k, std::int8_t* tile) {
  for (int part = 0; part < W; part += 32)
    for (std::int64_t k = 0; k < padded_k; k += 16) {
      __m256i a[16], b[16];
      for (int t = 0; t < 16; ++t) {
        const std::int64_t low = part + t < count ? part + t : count - 1;
        const std::int64_t high = part + t + 16 < count ? part + t + 16 : count - 1;
        const __m128i l = _mm_load_si128(reinterpret_cast<const __m128i*>(x + low * ldx + k));
        const __m128i h = _mm_load_si128(reinterpret_cast<const __m128i*>(x + high * ldx + k));
        a[t] = _mm256_inserti128_si256(_mm256_castsi128_si256(l), h, 1);
      }
      for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 8; ++i) {
          b[2 * i] = _mm256_unpacklo_epi8(a[i], a[i + 8]);
          b[2 * i + 1] = _mm256_unpackhi_epi8(a[i], a[i + 8]);
        }
        for (int i = 0; i < 8; ++i) {
          a[2 * i] = _mm256_unpacklo_epi8(b[i], b[i + 8]);
          a[2 * i + 1] = _mm256_unpackhi_epi8(b[i], b[i + 8]);
        }
      }
      for (int i = 0; i < 16; ++i) store(tile + (k + i) * W + part, a[i]);
    }
}

// s + the products of four activations and their four weights, for the 8 tokens in q.
inline __m256i add_products(__m256i s, __m256i w, __m256i sign, __m256i q) {
  return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(w, q), sign));
}

inline __m256i broadcast4(const void* p) { return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p))); }

// The compiler must not mix what stands before with what stands behind: 16 registers are just enough for one of them.
inline void keep_apart() { __asm__ volatile("" ::: "memory"); }

// 32 tokens of a column. Columns are stored times 8, so that the rest of the stride is a factor of the address.
template <int W>
inline __m256i column(const std::int8_t* tile, std::size_t c) {
  return load(tile + c * (W / 8));
}

template <int W>
inline void add_quad(const std::int8_t* tile, std::size_t c0, std::size_t c1, std::size_t c2, std::size_t c3, __m256i w,
                     __m256i sign, __m256i& s0, __m256i& s1, __m256i& s2, __m256i& s3) {
  const __m256i x0 = column<W>(tile, c0), x1 = column<W>(tile, c1), x2 = column<W>(tile, c2), x3 = column<W>(tile, c3);
  const __m256i low01 = _mm256_unpacklo_epi8(x0, x1), low23 = _mm256_unpacklo_epi8(x2, x3);
  s0 = add_products(s0, w, sign, _mm256_unpacklo_epi16(low01, low23));
  s1 = add_products(s1, w, sign, _mm256_unpackhi_epi16(low01, low23));
  const __m256i high01 = _mm256_unpackhi_epi8(x0, x1), high23 = _mm256_unpackhi_epi8(x2, x3);
  s2 = add_products(s2, w, sign, _mm256_unpacklo_epi16(high01, high23));
  s3 = add_products(s3, w, sign, _mm256_unpackhi_epi16(high01, high23));
}

// Half an octet: the products of four activations, summed in 16 bits, for the low and the high half of each lane's tokens.
template <int W>
inline void add_half(const std::int8_t* tile, std::size_t c0, std::size_t c1, std::size_t c2, std::size_t c3,
                     const std::uint8_t* weight, __m256i& low, __m256i& high) {
  const __m256i x0 = column<W>(tile, c0), x1 = column<W>(tile, c1), w01 = broadcast4(weight);
  low = _mm256_maddubs_epi16(w01, _mm256_unpacklo_epi8(x0, x1));
  high = _mm256_maddubs_epi16(w01, _mm256_unpackhi_epi8(x0, x1));
  const __m256i x2 = column<W>(tile, c2), x3 = column<W>(tile, c3), w23 = broadcast4(weight + 4);
  low = _mm256_add_epi16(low, _mm256_maddubs_epi16(w23, _mm256_unpacklo_epi8(x2, x3)));
  high = _mm256_add_epi16(high, _mm256_maddubs_epi16(w23, _mm256_unpackhi_epi8(x2, x3)));
}

// One row, one chunk: sums[W / 8][8] = or += the products of the octets [octet, end). Register i of 32 tokens holds
// tokens 4i .. 4i + 3 and 16 + 4i .. 16 + 4i + 3. Sums with names and not inlined: otherwise GCC 12 keeps them in memory.
template <int W>
__attribute__((noinline)) void add_octets(const std::int8_t* tile, const Octet* octet, const Octet* end,
                                          bool first, std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  if (!first) {
    s0 = load(sums), s1 = load(sums + 8), s2 = load(sums + 16), s3 = load(sums + 24);
    if (W == 64) s4 = load(sums + 32), s5 = load(sums + 40), s6 = load(sums + 48), s7 = load(sums + 56);
  }
  const std::int8_t* second = tile + 32;
  __asm__("" : "+r"(second));  // a base of its own: [second + 8 * column] needs no instruction for the address
  for (; octet != end; ++octet) {
    const std::size_t c0 = octet->column[0], c1 = octet->column[1], c2 = octet->column[2], c3 = octet->column[3];
    const std::size_t c4 = octet->column[4], c5 = octet->column[5], c6 = octet->column[6], c7 = octet->column[7];
    const __m256i sign = broadcast4(octet->sign);
    __m256i low0, high0, low1, high1;
    add_half<W>(tile, c0, c1, c2, c3, octet->weight, low0, high0);
    keep_apart();
    add_half<W>(tile, c4, c5, c6, c7, octet->weight + 8, low1, high1);
    s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi16(low0, low1), sign));
    s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi16(low0, low1), sign));
    s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi16(high0, high1), sign));
    s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi16(high0, high1), sign));
    if (W == 32) continue;
    keep_apart();
    add_half<W>(second, c0, c1, c2, c3, octet->weight, low0, high0);
    keep_apart();
    add_half<W>(second, c4, c5, c6, c7, octet->weight + 8, low1, high1);
    s4 = _mm256_add_epi32(s4, _mm256_madd_epi16(_mm256_unpacklo_epi16(low0, low1), sign));
    s5 = _mm256_add_epi32(s5, _mm256_madd_epi16(_mm256_unpackhi_epi16(low0, low1), sign));
    s6 = _mm256_add_epi32(s6, _mm256_madd_epi16(_mm256_unpacklo_epi16(high0, high1), sign));
    s7 = _mm256_add_epi32(s7, _mm256_madd_epi16(_mm256_unpackhi_epi16(high0, high1), sign));
  }
  store(sums, s0), store(sums + 8, s1), store(sums + 16, s2), store(sums + 24, s3);
  if (W == 64) store(sums + 32, s4), store(sums + 40, s5), store(sums + 48, s6), store(sums + 56, s7);
}

// The same for quads.
template <int W>
__attribute__((noinline)) void add_quads(const std::int8_t* tile, const Quad* quad, const Quad* end, bool first,
                                         std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  if (!first) {
    s0 = load(sums), s1 = load(sums + 8), s2 = load(sums + 16), s3 = load(sums + 24);
    if (W == 64) s4 = load(sums + 32), s5 = load(sums + 40), s6 = load(sums + 48), s7 = load(sums + 56);
  }
  const std::int8_t* second = tile + 32;
  __asm__("" : "+r"(second));
  for (; quad != end; ++quad) {
    const std::size_t c0 = quad->column[0], c1 = quad->column[1], c2 = quad->column[2], c3 = quad->column[3];
    const __m256i w = broadcast4(quad->weight), sign = broadcast4(quad->sign);
    add_quad<W>(tile, c0, c1, c2, c3, w, sign, s0, s1, s2, s3);
    if (W == 32) continue;
    keep_apart();
    add_quad<W>(second, c0, c1, c2, c3, w, sign, s4, s5, s6, s7);
  }
  store(sums, s0), store(sums + 8, s1), store(sums + 16, s2), store(sums + 24, s3);
  if (W == 64) store(sums + 32, s4), store(sums + 40, s5), store(sums + 48, s6), store(sums + 56, s7);
}

// sums[8][W / 8][8] of rows n .. n + 7, or of as many as there are.
template <int W>
void sum_rows(const QuadsView& v, const std::int8_t* tile, std::int64_t n, std::int32_t* sums) {
  const std::int64_t rows = v.n - n < 8 ? v.n - n : 8;
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int8_t* columns = tile + chunk * v.chunk * W;
    const std::int64_t* octet = v.octet_begin + chunk * v.n + n;
    const std::int64_t* quad = v.quad_begin + chunk * v.n + n;
    for (std::int64_t r = 0; r < rows; ++r) {
      bool first = chunk == 0;
      if (octet[r] != octet[r + 1]) {
        add_octets<W>(columns, v.octets + octet[r], v.octets + octet[r + 1], first, sums + r * W);
        first = false;
      }
      if (first || quad[r] != quad[r + 1]) add_quads<W>(columns, v.quads + quad[r], v.quads + quad[r + 1], first, sums + r * W);
    }
  }
}

// Turns the sums of rows n .. n + 7 round, 8 tokens at a time, and writes tokens [t, t_end).
template <int W>
void write_tile(const LinearTask& task, const QuadsView& v, const std::int32_t* sums, std::int64_t n, std::int64_t t,
                std::int64_t t_end) {
  const Writer write(task, v, n);
  for (int i = 0; i < W / 8; ++i, sums += 8) {
    const std::int64_t first = t + i / 4 * 32 + i % 4 * 4;  // tokens first .. + 3 and first + 16 .. + 19
    if (first >= t_end) continue;
    __m256i sum[8];
    transpose8(sums, W, sum);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const std::int64_t token = first + (j < 4 ? j : 12 + j);
      if (token < t_end) write(token, sum[j]);
    }
  }
}

// Tokens [t, t_end), at most W of them, of all units of the task.
template <int W>
void run_wide(const LinearTask& task, const QuadsView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = quads_padded_k(v.k);
  auto* tile = static_cast<std::int8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * W);
  transpose_tile<W>(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, padded_k, tile);
  const std::int64_t row_end = task.unit_end * kQuadsRows < v.n ? task.unit_end * kQuadsRows : v.n;
  for (std::int64_t n = task.unit_begin * kQuadsRows; n < row_end; n += 8) {
    // 2 KB of sums, so that the tile keeps its place in L1. Behind the last row stand leftovers, which go nowhere.
    sum_rows<W>(v, tile, n, sums);
    write_tile<W>(task, v, sums, n, t, t_end);
  }
}

}  // namespace

void run_quads_q8_avx2(const LinearTask& task) {
  const auto& v = *static_cast<const QuadsView*>(task.weight);
  for (std::int64_t t = 0; t < task.m;) {
    const std::int64_t left = task.m - t;
    if (left <= 32) {
      run_wide<32>(task, v, t, task.m);
      t = task.m;
    } else {
      const std::int64_t end = left < 64 ? task.m : t + 64;
      run_wide<64>(task, v, t, end);
      t = end;
    }
  }
}

}  // namespace aerogel
