// gathered_q8 on AVX-VNNI: vpshufb gathers four activations for each of 8 rows out of a 16-column window, vpdpbusd multiplies and
// adds all 32, for every one of 8 tokens whose sums stay in registers; index and value vectors are loaded once for them.
//
// Bound by the shuffle and multiply ports: vpshufb goes to 1 and 5 and vpdpbusd to 0 and 1 of Alder Lake's large cores, so a pair
// costs 2/3 of a cycle, where the dense kernel's vpdpbusd alone costs 1/2. Of the slots .89/.78/.65/.40/.23 are used at
// 50/70/80/90/95 % sparsity. No pair can saturate, so the packer may fill slots in any order. A prototype on Zen 5, over our
// dense kernel of that instruction set, 768 x 768, 128 tokens: 1.1/1.28/1.49/1.82/2.3/2.85x at 50/60/70/80/90/95 %. This
// kernel is not yet timed on hardware.
#include <immintrin.h>

#include "linear/gathered_q8/layout.h"
#include "linear/rows8_avx2.h"

namespace aerogel {
namespace {

constexpr std::int64_t kStride = kGatheredAvxVnniStride;
constexpr std::int64_t kTokens = kGatheredAvxVnniTokens;
alignas(32) constexpr std::int32_t kZeros[8] = {};

struct Window {
  std::uint8_t column[16];
};

// sum += one vector's products for one token. {vex}: without it the assembler takes the AVX-512 encoding.
inline __attribute__((always_inline)) void add_vector(__m256i& sum, const std::uint8_t* window, __m256i index, __m256i value) {
  __m256i x;
  __asm__(
      "vbroadcasti128 %[window], %[x]\n\t"
      "vpshufb %[index], %[x], %[x]\n\t"
      "%{vex%} vpdpbusd %[value], %[x], %[sum]"
      : [sum] "+x"(sum), [x] "=&x"(x)
      : [index] "x"(index), [value] "x"(value), [window] "m"(*reinterpret_cast<const Window*>(window)));
}

// sorted[T][8] = `start` + the sums of one group and T tokens (1, 2, 4 or 8) over vectors [window, end). columns: the chunk of token 0.
// Not inlined: the loop needs most registers. Few tokens take several vectors at a time to cover the latency of vpdpbusd.
template <int T>
__attribute__((noinline)) void add_vectors(const std::uint8_t* vector, const std::uint16_t* window, const std::uint16_t* end,
                                           const std::uint8_t* columns, const std::int32_t* start, std::int32_t* sorted) {
  constexpr int S = T == 8 ? 1 : T == 4 ? 2 : 4;
  __m256i sum[S][T];
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sum[s][t] = s == 0 ? load(start) : _mm256_setzero_si256();
  for (const std::uint16_t* const whole = end - (end - window) % S; window != whole; window += S, vector += 64 * S)
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      // 16 KB ahead: less does not help a stream from memory.
      _mm_prefetch(reinterpret_cast<const char*>(vector + 64 * s) + 16384, _MM_HINT_T0);
      const __m256i index = load(vector + 64 * s), value = load(vector + 64 * s + 32);
      const std::uint8_t* at = columns + window[s];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) add_vector(sum[s][t], at + t * kStride, index, value);
    }
  for (; window != end; ++window, vector += 64) {
    const __m256i index = load(vector), value = load(vector + 32);
    const std::uint8_t* at = columns + *window;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) add_vector(sum[0][t], at + t * kStride, index, value);
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int s = 1; s < S; ++s) sum[0][t] = _mm256_add_epi32(sum[0][t], sum[s][t]);
    store(sorted + 8 * t, sum[0][t]);
  }
}

// Writes rows n .. n + 7 of T tokens from t on. sum: T registers of 8 rows.
template <int T>
void write(const LinearTask& task, const GatheredView& v, std::int64_t n, std::int64_t t, const __m256i* sum) {
  const Writer writer(task, v, n);
#pragma GCC unroll 8
  for (int j = 0; j < T; ++j) writer(t + j, sum[j]);
}

// T tokens from token t on, one unit. x: their rows of chunk 0. The sums are brought back into the order of the rows through
// memory, as vectors have no cheap scatter: from 4 tokens on as whole registers, [row][8], fewer number by number, [T][row].
template <int T>
void run_unit(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t t, const std::uint8_t* x,
              std::int32_t* sums) {
  const std::int64_t block = v.block;
  alignas(32) std::int32_t sorted[64] = {};
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk, x += kTokens * kStride) {
    const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block;
    const std::uint8_t* row_at = v.row_at + unit * block;
    for (std::int64_t group = 0; group < v.groups_per_block; ++group, row_at += 8) {
      add_vectors<T>(v.vectors + segment[group] * 64, v.window + segment[group], v.window + segment[group + 1], x,
                     chunk == 0 ? v.start + unit * block + 8 * group : kZeros, sorted);
      if (T >= 4) {
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
  for (std::int64_t r = 0; r < block && unit * block + r < v.n; r += 8) {
    __m256i sum[8];
    if (T >= 4)
      transpose8(sums + 8 * r, 8, sum);
    else
      for (int j = 0; j < T; ++j) sum[j] = load(sums + j * block + r);
    write<T>(task, v, unit * block + r, t, sum);
  }
}

}  // namespace

void run_gathered_q8_avxvnni(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  auto* const rows = static_cast<std::uint8_t*>(task.scratch);
  auto* const sums = reinterpret_cast<std::int32_t*>(rows + v.chunks * kTokens * kStride);
  const __m256i flip = _mm256_set1_epi8(-128);
  for (std::int64_t first = 0; first < task.m; first += kTokens) {
    const std::int64_t end = task.m - first < kTokens ? task.m : first + kTokens;
    for (std::int64_t t = first; t < end; ++t)
      for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
        const std::int64_t column = chunk * v.geometry.chunk;
        const std::int64_t columns = v.k - column < v.geometry.chunk ? v.k - column : v.geometry.chunk;
        const std::int8_t* from = static_cast<const std::int8_t*>(task.x) + t * task.ldx + column;
        std::uint8_t* to = rows + (chunk * kTokens + t - first) * kStride;
        // x has whole lines; what a window reads behind a chunk meets no weight.
        for (std::int64_t k = 0; k < columns; k += 32) store(to + k, _mm256_xor_si256(load(from + k), flip));
      }
    // A block of tokens stays in L2, and each unit's vectors come from afar once for it.
    for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit)
      for (std::int64_t t = first; t < end;) {
        const std::uint8_t* x = rows + (t - first) * kStride;
        const std::int64_t left = end - t;
        if (left >= 8) {
          run_unit<8>(task, v, unit, t, x, sums);
          t += 8;
        } else if (left >= 4) {
          run_unit<4>(task, v, unit, t, x, sums);
          t += 4;
        } else if (left >= 2) {
          run_unit<2>(task, v, unit, t, x, sums);
          t += 2;
        } else {
          run_unit<1>(task, v, unit, t, x, sums);
          t += 1;
        }
      }
  }
}

}  // namespace aerogel
