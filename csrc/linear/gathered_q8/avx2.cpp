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

// y[n .. n + 8) = float(sum) * (x_scale * scale) + bias, `count` of them.
inline void write_outputs(const LinearTask& task, const GatheredView& v, std::int64_t t, std::int64_t n, std::int64_t count,
                          __m256i sum) {
  const __m256 factor = _mm256_mul_ps(_mm256_set1_ps(task.x_scale[t]), _mm256_loadu_ps(v.scale + n));
  __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor);
  float* to = task.y + t * task.ldy + n;
  if (count >= 8) {
    if (task.bias != nullptr) y = _mm256_add_ps(y, _mm256_loadu_ps(task.bias + n));
    _mm256_storeu_ps(to, y);
    return;
  }
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
  if (task.bias != nullptr) y = _mm256_add_ps(y, _mm256_maskload_ps(task.bias + n, mask));
  _mm256_maskstore_ps(to, mask, y);
}

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

// Adds the quads [quad, end) to the sums of W tokens.
template <int W>
inline void add_quads(const std::int8_t* tile, const std::uint16_t* column, const std::uint8_t* weight, std::int64_t quads,
                      __m256i (&sum)[W / 8]) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (const std::uint8_t* end = weight + 4 * quads; weight != end; weight += 4, column += 4) {
    // Columns are stored times 8, so that the rest of the stride is a factor of the address.
    const std::int8_t* c0 = tile + std::size_t{column[0]} * (W / 8);
    const std::int8_t* c1 = tile + std::size_t{column[1]} * (W / 8);
    const std::int8_t* c2 = tile + std::size_t{column[2]} * (W / 8);
    const std::int8_t* c3 = tile + std::size_t{column[3]} * (W / 8);
    const __m256i w = _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(weight)));
#pragma GCC unroll 2
    for (int p = 0; p < W / 32; ++p) {
      const __m256i x0 = load(c0 + 32 * p), x1 = load(c1 + 32 * p), x2 = load(c2 + 32 * p), x3 = load(c3 + 32 * p);
      const __m256i low01 = _mm256_unpacklo_epi8(x0, x1), high01 = _mm256_unpackhi_epi8(x0, x1);
      const __m256i low23 = _mm256_unpacklo_epi8(x2, x3), high23 = _mm256_unpackhi_epi8(x2, x3);
      const __m256i q0 = _mm256_unpacklo_epi16(low01, low23), q1 = _mm256_unpackhi_epi16(low01, low23);
      const __m256i q2 = _mm256_unpacklo_epi16(high01, high23), q3 = _mm256_unpackhi_epi16(high01, high23);
      __m256i* s = sum + 4 * p;
      s[0] = _mm256_add_epi32(s[0], _mm256_madd_epi16(_mm256_maddubs_epi16(w, q0), ones));
      s[1] = _mm256_add_epi32(s[1], _mm256_madd_epi16(_mm256_maddubs_epi16(w, q1), ones));
      s[2] = _mm256_add_epi32(s[2], _mm256_madd_epi16(_mm256_maddubs_epi16(w, q2), ones));
      s[3] = _mm256_add_epi32(s[3], _mm256_madd_epi16(_mm256_maddubs_epi16(w, q3), ones));
    }
  }
}

// sums[row][W / 8][8]: register i of 32 tokens holds tokens 4i .. 4i + 3 and 16 + 4i .. 16 + 4i + 3.
template <int W>
void sum_rows(const GatheredView& v, const std::int8_t* tile, std::int64_t row, std::int64_t row_end, std::int32_t* sums) {
  for (std::int64_t chunk = 0; chunk < v.quad_chunks; ++chunk) {
    const std::int64_t* quad = v.quad + (chunk * v.n + row) * 2;
    const std::int8_t* columns = tile + chunk * v.quad_chunk * W;
    std::int32_t* to = sums;
    for (std::int64_t n = row; n < row_end; ++n, quad += 2, to += W) {
      __m256i sum[W / 8];
#pragma GCC unroll 8
      for (int i = 0; i < W / 8; ++i) sum[i] = chunk == 0 ? _mm256_setzero_si256() : _mm256_sub_epi32(_mm256_setzero_si256(), load(to + 8 * i));
      add_quads<W>(columns, v.quad_column + 4 * quad[0], v.quad_weight + 4 * quad[0], quad[1] - quad[0], sum);
#pragma GCC unroll 8
      for (int i = 0; i < W / 8; ++i) sum[i] = _mm256_sub_epi32(_mm256_setzero_si256(), sum[i]);
      add_quads<W>(columns, v.quad_column + 4 * quad[1], v.quad_weight + 4 * quad[1], quad[2] - quad[1], sum);
#pragma GCC unroll 8
      for (int i = 0; i < W / 8; ++i) store(to + 8 * i, sum[i]);
    }
  }
}

// Turns the sums of 8 rows and 8 tokens round and writes them; `t` is the first token of the 32, `i` the register.
template <int W>
void write_tile(const LinearTask& task, const GatheredView& v, const std::int32_t* sums, std::int64_t n, std::int64_t rows,
                std::int64_t t, std::int64_t t_end) {
  for (int i = 0; i < W / 8; ++i) {
    const std::int64_t first = t + i / 4 * 32 + i % 4 * 4;  // tokens first .. +3 and first + 16 .. +19
    if (first >= t_end) continue;
    const std::int32_t* from = sums + 8 * i;
    __m256i r[8], s[8];
    for (int j = 0; j < 8; ++j) r[j] = load(from + j * W);
    for (int j = 0; j < 8; j += 4) {
      const __m256i a = _mm256_unpacklo_epi32(r[j], r[j + 1]), b = _mm256_unpackhi_epi32(r[j], r[j + 1]);
      const __m256i c = _mm256_unpacklo_epi32(r[j + 2], r[j + 3]), d = _mm256_unpackhi_epi32(r[j + 2], r[j + 3]);
      s[j] = _mm256_unpacklo_epi64(a, c);
      s[j + 1] = _mm256_unpackhi_epi64(a, c);
      s[j + 2] = _mm256_unpacklo_epi64(b, d);
      s[j + 3] = _mm256_unpackhi_epi64(b, d);
    }
    for (int j = 0; j < 4; ++j) {
      if (first + j < t_end) write_outputs(task, v, first + j, n, rows, _mm256_permute2x128_si256(s[j], s[j + 4], 0x20));
      if (first + 16 + j < t_end)
        write_outputs(task, v, first + 16 + j, n, rows, _mm256_permute2x128_si256(s[j], s[j + 4], 0x31));
    }
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
    sum_rows<W>(v, tile, row, row_end, sums);
    for (std::int64_t n = row; n < row_end; n += 8)
      write_tile<W>(task, v, sums + (n - row) * W, n, row_end - n, t, t_end);
  }
}

// ---- vectors -----------------------------------------------------------------------------------------------------

// One group, one chunk, T tokens: rows on the lanes. x is the chunk's first column of token 0, as q + 128.
template <int T>
inline void add_vectors(const GatheredView& v, std::int64_t begin, std::int64_t end, const std::uint8_t* x,
                        std::int64_t stride, __m256i (&sum)[T]) {
  const __m256i ones = _mm256_set1_epi16(1);
  const std::uint8_t* vector = v.vectors + begin * 64;
  const std::uint8_t* const x4 = x + 4 * stride;
  for (std::int64_t i = begin; i < end; ++i, vector += 64) {
    // 16 KB ahead: less does not help a stream from memory.
    _mm_prefetch(reinterpret_cast<const char*>(vector) + 16384, _MM_HINT_T0);
    const __m256i index = load(vector), value = load(vector + 32);
    const std::size_t at = v.window[i];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const std::uint8_t* window = (t < 4 ? x + t * stride : x4 + (t - 4) * stride) + at;
      const __m256i columns = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(window)));
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_shuffle_epi8(columns, index), value);
      sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(pairs, ones));
    }
  }
}

// Tokens [t, t + T) of one unit; x: their rows as q + 128. sums[T][block] are in the order of the rows, not the sorted one.
template <int T>
void run_unit(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t t, const std::uint8_t* x,
              std::int64_t stride, std::int32_t* sums) {
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block;
    for (std::int64_t group = 0; group < v.groups_per_block; ++group) {
      const std::uint8_t* row_at = v.row_at + unit * v.block + group * 8;
      __m256i sum[T];
#pragma GCC unroll 8
      for (int j = 0; j < T; ++j) sum[j] = _mm256_setzero_si256();
      add_vectors<T>(v, segment[group], segment[group + 1], x + chunk * v.geometry.chunk, stride, sum);
      // Back to the order of the rows through memory: scalar moves use the ports that the arithmetic leaves free.
#pragma GCC unroll 8
      for (int j = 0; j < T; ++j) {
        alignas(32) std::int32_t sorted[8];
        store(sorted, sum[j]);
        std::int32_t* to = sums + j * v.block;
        if (chunk == 0)
          for (int lane = 0; lane < 8; ++lane) to[row_at[lane]] = sorted[lane];
        else
          for (int lane = 0; lane < 8; ++lane) to[row_at[lane]] += sorted[lane];
      }
    }
  }
  for (std::int64_t r = 0; r < v.block; r += 8) {
    const std::int64_t n = unit * v.block + r;
    if (n >= v.n) break;
    const __m256i offset = load(v.offset + n);
    for (int j = 0; j < T; ++j)
      write_outputs(task, v, t + j, n, v.n - n, _mm256_sub_epi32(load(sums + j * v.block + r), offset));
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
