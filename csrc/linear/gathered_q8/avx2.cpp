// gathered_q8 on AVX2: a byte shuffle gathers four activations for each of 8 rows from a window of 16.
//
// 4 vector instructions and a broadcast load for 32 slots and one token, 2 of them on the two multiply ports: one cycle
// (measured 1.3 with 8 tokens, the two that unpack the indices included; one token is bound by L2 and L3), but only
// .89/.75/.58/.35/.21 of the slots are used at 50/70/80/90/95 % sparsity, as a 16-column window seldom holds four nonzeros of
// every row. abs/sign instead of the packer's safe pairs would be a fifth instruction, against slots used
// .90/.77/.64/.40/.22; groups of 4 rows would use .92/.79/.63/.39/.24.
#include <immintrin.h>

#include "linear/gathered_q8/layout.h"
#include "linear/rows8_avx2.h"

namespace aerogel {
namespace {

alignas(32) constexpr std::int32_t kZeros[8] = {};

// s + one vector's products for one token.
inline __m256i add_vector(__m256i s, const std::uint8_t* window, __m256i index, __m256i value) {
  const __m256i columns = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(window)));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_shuffle_epi8(columns, index), value);
  return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// sorted[T][8] = `start` + the sums of one group and T <= 8 tokens over vectors [window, end). Not inlined: the loop needs most
// registers.
template <int T>
__attribute__((noinline)) void add_vectors(const std::uint8_t* vector, const std::uint16_t* window, const std::uint16_t* end,
                                           const std::uint8_t* columns, std::int64_t stride, const std::int32_t* start, std::int32_t* sorted) {
  const std::int64_t stride3 = 3 * stride;
  const __m256i low = _mm256_set1_epi8(15), shift = _mm256_setr_epi64x(0, 0, 4, 4);
  __m256i s0 = load(start), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  for (; window != end; ++window, vector += 48) {
    // 16 KB ahead: less does not help a stream from memory.
    _mm_prefetch(reinterpret_cast<const char*>(vector) + 16384, _MM_HINT_T0);
    const __m256i packed = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(vector)));
    const __m256i index = _mm256_and_si256(_mm256_srlv_epi64(packed, shift), low), value = load(vector + 16);
    const std::uint8_t* at = columns + *window;
    s0 = add_vector(s0, at, index, value);
    if (T > 1) s1 = add_vector(s1, at + stride, index, value);
    if (T > 2) s2 = add_vector(s2, at + 2 * stride, index, value);
    if (T > 3) s3 = add_vector(s3, at + stride3, index, value);
    at += 4 * stride;
    if (T > 4) s4 = add_vector(s4, at, index, value);
    if (T > 5) s5 = add_vector(s5, at + stride, index, value);
    if (T > 6) s6 = add_vector(s6, at + 2 * stride, index, value);
    if (T > 7) s7 = add_vector(s7, at + stride3, index, value);
  }
  store(sorted, s0);
  if (T > 1) store(sorted + 8, s1);
  if (T > 2) store(sorted + 16, s2);
  if (T > 3) store(sorted + 24, s3);
  if (T > 4) store(sorted + 32, s4), store(sorted + 40, s5), store(sorted + 48, s6), store(sorted + 56, s7);
}

// T tokens from token t on, one unit. x: their rows as q + 128. The sums are brought back into the order of the rows
// through memory, as vectors have no cheap scatter: more than 4 tokens as whole registers, [row][8], fewer number by number, [T][row].
template <int T>
void run_unit(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t t, const std::uint8_t* x,
              std::int64_t stride, std::int32_t* sums) {
  const std::int64_t block = v.block;
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block;
    const std::uint8_t* row_at = v.row_at + unit * block;
    for (std::int64_t group = 0; group < v.groups_per_block; ++group, row_at += 8) {
      alignas(32) std::int32_t sorted[(T > 4 ? 8 : T) * 8];
      add_vectors<T>(v.vectors + segment[group] * 48, v.window + segment[group], v.window + segment[group + 1],
                     x + chunk * v.geometry.chunk, stride, chunk == 0 ? v.start + unit * block + 8 * group : kZeros, sorted);
      if (T > 4) {
        __m256i row[8];
        transpose8(sorted, 8, row);
#pragma GCC unroll 8
        for (int lane = 0; lane < 8; ++lane) {
          std::int32_t* to = sums + row_at[lane] * 8;
          store(to, chunk == 0 ? row[lane] : _mm256_add_epi32(row[lane], load(to)));
        }
      } else {
        for (int lane = 0; lane < 8; ++lane) {
          std::int32_t* to = sums + row_at[lane];
          // Unsigned: before they are whole the sums may wrap.
          for (int j = 0; j < T; ++j)
            to[j * block] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sorted[8 * j + lane]) +
                                                      (chunk == 0 ? 0u : static_cast<std::uint32_t>(to[j * block])));
        }
      }
    }
  }
  for (std::int64_t r = 0; r < block; r += 8) {
    const std::int64_t n = unit * block + r;
    if (n >= v.n) break;
    const Writer write(task, v, n);
    __m256i sum[8];
    if (T > 4)
      transpose8(sums + 8 * r, 8, sum);
    else
      for (int j = 0; j < T; ++j) sum[j] = load(sums + j * block + r);
    for (int j = 0; j < T; ++j) write(t + j, sum[j]);
  }
}

void run_unit_of(std::int64_t tokens, const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t t,
                 const std::uint8_t* x, std::int64_t stride, std::int32_t* sums) {
  switch (tokens) {
    case 1: return run_unit<1>(task, v, unit, t, x, stride, sums);
    case 2: return run_unit<2>(task, v, unit, t, x, stride, sums);
    case 3: return run_unit<3>(task, v, unit, t, x, stride, sums);
    case 4: return run_unit<4>(task, v, unit, t, x, stride, sums);
    case 5: return run_unit<5>(task, v, unit, t, x, stride, sums);
    case 6: return run_unit<6>(task, v, unit, t, x, stride, sums);
    case 7: return run_unit<7>(task, v, unit, t, x, stride, sums);
    default: return run_unit<8>(task, v, unit, t, x, stride, sums);
  }
}

// Tokens [t, t_end), at most kGatheredAvx2Tokens. Every vector is fetched from memory once: units outside, tiles of at most 8 tokens inside.
void run_tokens(const LinearTask& task, const GatheredView& v, std::int64_t t, std::int64_t t_end) {
  const std::int64_t stride = gathered_avx2_stride(v.k), padded_k = gathered_padded_k(v.k);
  auto* rows = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(rows + stride * kGatheredAvx2Tokens);
  const __m256i flip = _mm256_set1_epi8(-128);
  for (std::int64_t i = t; i < t_end; ++i) {
    const std::int8_t* from = static_cast<const std::int8_t*>(task.x) + i * task.ldx;
    std::uint8_t* to = rows + (i - t) * stride;
    for (std::int64_t k = 0; k < padded_k; k += 32) store(to + k, _mm256_xor_si256(load(from + k), flip));
    store(to + padded_k, flip);  // a window may reach 15 columns beyond K, where no weight is
  }
  const std::int64_t tiles = (t_end - t + 7) / 8;
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit)
    for (std::int64_t i = 0, from = t; i < tiles; ++i) {
      const std::int64_t to = t + (t_end - t) * (i + 1) / tiles;  // tiles differ by one token at most
      run_unit_of(to - from, task, v, unit, from, rows + (from - t) * stride, stride, sums);
      from = to;
    }
}

}  // namespace

void run_gathered_q8_avx2(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  for (std::int64_t t = 0; t < task.m; t += kGatheredAvx2Tokens)
    run_tokens(task, v, t, task.m - t < kGatheredAvx2Tokens ? task.m : t + kGatheredAvx2Tokens);
}

}  // namespace aerogel
