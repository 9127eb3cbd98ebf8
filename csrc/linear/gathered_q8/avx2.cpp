// gathered_q8 on AVX2: quads (tokens on the lanes) for many tokens, vectors (rows on the lanes) for few.
//
// run_wide: a tile of 32 or 64 tokens is transposed once to [K][tokens]; then every quad of nonzeros costs, for 32
// tokens, 4 loads, 8 unpacks, 4 maddubs, 4 madd and 4 adds: 20 vector instructions for 128 useful products whatever
// the pattern. Zen 3 has two ports for the multiplies, two for the unpacks, and any of four for the adds, so 5 cycles:
// 25.6 products a cycle where the dense kernel's limit is 32. The front end (31 instructions, 6 a cycle) is as close;
// with 64 tokens the four columns and the weights are read once for both halves.
//
// run_few: 4 vector instructions and a broadcast load for 32 slots and one token: one cycle, but only .9/.73/.57/.35
// of the slots are used at 50/70/80/90 % sparsity, as a 16-column window seldom holds four nonzeros of every row.
// (abs/sign instead of the packer's safe pairs would be a fifth instruction, on the multiply ports, against slots
// used .9/.77/.64/.40.)
#include <immintrin.h>

#include "linear/gathered_q8/layout.h"

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

  Writer(const LinearTask& task, const GatheredView& v, std::int64_t n)
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

// ---- quads -------------------------------------------------------------------------------------------------------

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

inline void add_quad(__m256i w, __m256i sign, const std::int8_t* c0, const std::int8_t* c1, const std::int8_t* c2, const std::int8_t* c3,
                     __m256i& s0, __m256i& s1, __m256i& s2, __m256i& s3) {
  const __m256i x0 = load(c0), x1 = load(c1), x2 = load(c2), x3 = load(c3);
  const __m256i low01 = _mm256_unpacklo_epi8(x0, x1), low23 = _mm256_unpacklo_epi8(x2, x3);
  s0 = add_products(s0, w, sign, _mm256_unpacklo_epi16(low01, low23));
  s1 = add_products(s1, w, sign, _mm256_unpackhi_epi16(low01, low23));
  const __m256i high01 = _mm256_unpackhi_epi8(x0, x1), high23 = _mm256_unpackhi_epi8(x2, x3);
  s2 = add_products(s2, w, sign, _mm256_unpacklo_epi16(high01, high23));
  s3 = add_products(s3, w, sign, _mm256_unpackhi_epi16(high01, high23));
}

// One row, one chunk: sums[W / 8][8] = or += the products of quads [quad, end). Register i of 32 tokens holds tokens
// 4i .. 4i + 3 and 16 + 4i .. 16 + 4i + 3. Sums with names and not inlined: otherwise GCC 12 keeps them in memory.
template <int W>
__attribute__((noinline)) void add_row(const std::int8_t* tile, const GatheredQuad* quad, const GatheredQuad* end, bool first,
                                       std::int32_t* sums) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  if (!first) {
    s0 = load(sums), s1 = load(sums + 8), s2 = load(sums + 16), s3 = load(sums + 24);
    if (W == 64) s4 = load(sums + 32), s5 = load(sums + 40), s6 = load(sums + 48), s7 = load(sums + 56);
  }
  for (; quad != end; ++quad) {
    // Columns are stored times 8, so that the rest of the stride is a factor of the address.
    const std::int8_t* c0 = tile + std::size_t{quad->column[0]} * (W / 8);
    const std::int8_t* c1 = tile + std::size_t{quad->column[1]} * (W / 8);
    const std::int8_t* c2 = tile + std::size_t{quad->column[2]} * (W / 8);
    const std::int8_t* c3 = tile + std::size_t{quad->column[3]} * (W / 8);
    const __m256i w = broadcast4(quad->weight), sign = broadcast4(quad->sign);
    add_quad(w, sign, c0, c1, c2, c3, s0, s1, s2, s3);
    if (W == 32) continue;
    // The compiler must not mix the halves: 16 registers hold the sums and the temporaries of one of them.
    __asm__ volatile("" ::: "memory");
    add_quad(w, sign, c0 + 32, c1 + 32, c2 + 32, c3 + 32, s4, s5, s6, s7);
  }
  store(sums, s0), store(sums + 8, s1), store(sums + 16, s2), store(sums + 24, s3);
  if (W == 64) store(sums + 32, s4), store(sums + 40, s5), store(sums + 48, s6), store(sums + 56, s7);
}

// sums[row][W / 8][8] of one unit. Its rows are run by their number of quads, so that the branch that ends a row, whose
// misprediction costs as much as two quads, is mostly foreseen.
template <int W>
void sum_unit(const GatheredView& v, const std::int8_t* tile, std::int64_t unit, std::int32_t* sums) {
  const std::int64_t rows = v.n - unit * v.block < v.block ? v.n - unit * v.block : v.block;
  const std::uint8_t* row_at = v.row_at + unit * v.block;
  for (std::int64_t chunk = 0; chunk < v.quad_chunks; ++chunk) {
    const std::int64_t* begin = v.quad_begin + chunk * v.n + unit * v.block;
    for (std::int64_t i = 0; i < v.block; ++i)
      if (row_at[i] < rows)
        add_row<W>(tile + chunk * v.quad_chunk * W, v.quads + begin[row_at[i]], v.quads + begin[row_at[i] + 1], chunk == 0,
                   sums + row_at[i] * W);
  }
}

// Turns the sums of rows n .. n + 7 round, 8 tokens at a time, and writes tokens [t, t_end).
template <int W>
void write_tile(const LinearTask& task, const GatheredView& v, const std::int32_t* sums, std::int64_t n, std::int64_t t,
                std::int64_t t_end) {
  const Writer write(task, v, n);
  for (int i = 0; i < W / 8; ++i, sums += 8) {
    const std::int64_t first = t + i / 4 * 32 + i % 4 * 4;  // tokens first .. + 3 and first + 16 .. + 19
    if (first >= t_end) continue;
    __m256i s[8];
#pragma GCC unroll 2
    for (int j = 0; j < 8; j += 4) {
      const __m256i r0 = load(sums + j * W), r1 = load(sums + (j + 1) * W);
      const __m256i r2 = load(sums + (j + 2) * W), r3 = load(sums + (j + 3) * W);
      const __m256i a = _mm256_unpacklo_epi32(r0, r1), b = _mm256_unpackhi_epi32(r0, r1);
      const __m256i c = _mm256_unpacklo_epi32(r2, r3), d = _mm256_unpackhi_epi32(r2, r3);
      s[j] = _mm256_unpacklo_epi64(a, c);
      s[j + 1] = _mm256_unpackhi_epi64(a, c);
      s[j + 2] = _mm256_unpacklo_epi64(b, d);
      s[j + 3] = _mm256_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      if (first + j < t_end) write(first + j, _mm256_permute2x128_si256(s[j], s[j + 4], 0x20));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      if (first + 16 + j < t_end) write(first + 16 + j, _mm256_permute2x128_si256(s[j], s[j + 4], 0x31));
  }
}

// Tokens [t, t_end), at most W of them, of all units of the task.
template <int W>
void run_wide(const LinearTask& task, const GatheredView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t padded_k = gathered_padded_k(v.k);
  auto* tile = static_cast<std::int8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(tile + padded_k * W);
  transpose_tile<W>(static_cast<const std::int8_t*>(task.x) + t * task.ldx, task.ldx, t_end - t, padded_k, tile);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t row = unit * v.block, row_end = row + v.block < v.n ? row + v.block : v.n;
    // The sums of one unit stay in L1 until they are written; rows beyond the last hold leftovers, which go nowhere.
    sum_unit<W>(v, tile, unit, sums);
    for (std::int64_t n = row; n < row_end; n += 8)
      write_tile<W>(task, v, sums + (n - row) * W, n, t, t_end);
  }
}

// ---- vectors -----------------------------------------------------------------------------------------------------

// s + one vector's products for one token.
inline __m256i add_vector(__m256i s, const std::uint8_t* window, __m256i index, __m256i value) {
  const __m256i columns = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(window)));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_shuffle_epi8(columns, index), value);
  return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// sorted[T][8] = the sums of one group and T tokens (1, 2, 4 or 8) over vectors [window, end). Not inlined: the loop
// needs most registers.
template <int T>
__attribute__((noinline)) void add_vectors(const std::uint8_t* vector, const std::uint16_t* window, const std::uint16_t* end,
                                           const std::uint8_t* columns, std::int64_t stride, std::int32_t* sorted) {
  const std::int64_t stride3 = 3 * stride;
  const __m256i zero = _mm256_setzero_si256();
  __m256i s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero;
  for (; window != end; ++window, vector += 64) {
    // 16 KB ahead: less does not help a stream from memory.
    _mm_prefetch(reinterpret_cast<const char*>(vector) + 16384, _MM_HINT_T0);
    const __m256i index = load(vector), value = load(vector + 32);
    const std::uint8_t* at = columns + *window;
    s0 = add_vector(s0, at, index, value);
    if (T >= 2) s1 = add_vector(s1, at + stride, index, value);
    if (T >= 4) s2 = add_vector(s2, at + 2 * stride, index, value);
    if (T >= 4) s3 = add_vector(s3, at + stride3, index, value);
    at += 4 * stride;
    if (T == 8) s4 = add_vector(s4, at, index, value);
    if (T == 8) s5 = add_vector(s5, at + stride, index, value);
    if (T == 8) s6 = add_vector(s6, at + 2 * stride, index, value);
    if (T == 8) s7 = add_vector(s7, at + stride3, index, value);
  }
  store(sorted, s0);
  if (T >= 2) store(sorted + 8, s1);
  if (T >= 4) store(sorted + 16, s2), store(sorted + 24, s3);
  if (T == 8) store(sorted + 32, s4), store(sorted + 40, s5), store(sorted + 48, s6), store(sorted + 56, s7);
}

// T tokens from token t on, one unit. x: their rows as q + 128. sums[T][block]: in the order of the rows.
template <int T>
void run_unit(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t t, const std::uint8_t* x,
              std::int64_t stride, std::int32_t* sums) {
  const std::int64_t block = v.block;
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block;
    const std::uint8_t* row_at = v.row_at + unit * block;
    for (std::int64_t group = 0; group < v.groups_per_block; ++group, row_at += 8) {
      alignas(32) std::int32_t sorted[T * 8];
      add_vectors<T>(v.vectors + segment[group] * 64, v.window + segment[group], v.window + segment[group + 1],
                     x + chunk * v.geometry.chunk, stride, sorted);
      // Back into the order of the rows through memory: vectors have no cheap scatter.
      for (int lane = 0; lane < 8; ++lane) {
        std::int32_t* to = sums + row_at[lane];
        for (int j = 0; j < T; ++j) to[j * block] = sorted[8 * j + lane] + (chunk == 0 ? 0 : to[j * block]);
      }
    }
  }
  for (std::int64_t r = 0; r < block; r += 8) {
    const std::int64_t n = unit * block + r;
    if (n >= v.n) break;
    const Writer write(task, v, n);
    const __m256i offset = load(v.offset + n);
    for (int j = 0; j < T; ++j) write(t + j, _mm256_sub_epi32(load(sums + j * block + r), offset));
  }
}

// At most kGatheredAvx2Few tokens. Every vector is fetched from memory once: units outside, tiles of 8, 4, 2, 1 tokens inside.
void run_few(const LinearTask& task, const GatheredView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t stride = gathered_avx2_stride(v.k), padded_k = gathered_padded_k(v.k);
  auto* rows = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(rows + stride * kGatheredAvx2Few);
  const __m256i flip = _mm256_set1_epi8(-128);
  for (std::int64_t i = t; i < t_end; ++i) {
    const std::int8_t* from = static_cast<const std::int8_t*>(task.x) + i * task.ldx;
    std::uint8_t* to = rows + (i - t) * stride;
    for (std::int64_t k = 0; k < padded_k; k += 32) store(to + k, _mm256_xor_si256(load(from + k), flip));
    store(to + padded_k, flip);  // a window may reach 15 columns beyond K, where no weight is
  }
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit)
    for (std::int64_t i = t; i < t_end;) {
      const std::uint8_t* x = rows + (i - t) * stride;
      const std::int64_t left = t_end - i;
      if (left >= 8) {
        run_unit<8>(task, v, unit, i, x, stride, sums);
        i += 8;
      } else if (left >= 4) {
        run_unit<4>(task, v, unit, i, x, stride, sums);
        i += 4;
      } else if (left >= 2) {
        run_unit<2>(task, v, unit, i, x, stride, sums);
        i += 2;
      } else {
        run_unit<1>(task, v, unit, i, x, stride, sums);
        i += 1;
      }
    }
}

}  // namespace

void run_gathered_q8_avx2(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  for (std::int64_t t = 0; t < task.m;) {
    const std::int64_t left = task.m - t;
    if (left <= v.few_tokens) {
      run_few(task, v, t, task.m);
      return;
    }
    // A wide tile costs the same however full it is.
    if (left <= 32 + v.few_tokens) {
      const std::int64_t end = left < 32 ? task.m : t + 32;
      run_wide<32>(task, v, t, end);
      t = end;
    } else {
      const std::int64_t end = left < 64 ? task.m : t + 64;
      run_wide<64>(task, v, t, end);
      t = end;
    }
  }
}

}  // namespace aerogel
