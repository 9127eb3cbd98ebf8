// What gathered_q8 and gathered_rows_q8 share on AVX-512: the windows of a chunk of activations, sets of units, and the way from sums
// in sorted order to y. Internal linkage: each kernel file compiles its own copy.
//
// Scratch holds, for one chunk of K and T tokens, every window of 64 columns in steps of 32 whole ([window][T][64]), so that no gather
// crosses a cache line (measured on Emerald Rapids: 1.31 instead of 1.14 cycles for a gather and a product): columns stand there twice.
// 24 windows of 16 tokens are 24 KB of the 48 KB of L1 there: a pair took 1.18 to 1.20 cycles with up to 32 KB and 1.36 with 40 KB.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "linear/linear.h"

// A loop left rolled would keep registers in memory.
#define UNROLL4 _Pragma("GCC unroll 4")
#define UNROLL16 _Pragma("GCC unroll 16")

namespace aerogel {
namespace {

// A set of units is run for one tile of tokens after the other, and the windows are copied once for each: measured on Emerald Rapids,
// whose L2 has 2 MB, sets of 1.2 MB of vectors and 1024 rows were 3 to 5 % faster than half as much.
constexpr std::int64_t kSetBytes = 1200 << 10;

// The units from `unit` on that are a set, `most` at most. segment: the first vector of each of `parts` parts a unit.
std::int64_t end_of_set(const LinearTask& task, std::int64_t unit, std::int64_t most, const std::int64_t* segment, std::int64_t parts,
                        std::int64_t vector_bytes) {
  const std::int64_t limit = segment[unit * parts] + kSetBytes / vector_bytes;
  std::int64_t end = unit + 1;
  while (end < task.unit_end && end - unit < most && segment[(end + 1) * parts] <= limit) ++end;
  return end;
}

// windows[w][T][64] = 128 + x[t][32 w .. 32 w + 64) of the chunk that begins at x and has `columns` columns. The second half of the
// last window is never used, and may lie behind x. Tokens outside: each row is read in order, and whole lines are written.
template <int T>
void copy_windows(const std::int8_t* x, std::int64_t ldx, std::int64_t columns, std::uint8_t* windows) {
  const __m512i flip = _mm512_set1_epi8(-128);
  const std::int64_t last = (columns - 1) / 32;
  for (int t = 0; t < T; ++t, x += ldx, windows += 64) {
    for (std::int64_t w = 0; w < last; ++w)
      _mm512_store_si512(windows + w * T * 64, _mm512_xor_si512(_mm512_loadu_si512(x + 32 * w), flip));
    _mm512_store_si512(windows + last * T * 64, _mm512_xor_si512(_mm512_maskz_loadu_epi8(0xFFFFFFFFu, x + 32 * last), flip));
  }
}

constexpr __mmask16 kAll = 0xFFFF;  // maskz forms: GCC 12 warns of the undefined operand inside the others

// 16 sums of a block out of their places: those of place p stand in lane p % 16 of group p / 16. Not vpgatherdd, which takes
// 20 cycles on Zen 5.
template <int Block>
struct Places {
  __m512i place;
  __mmask16 third, fifth, ninth;  // in the upper half of four groups, of eight, of sixteen

  explicit Places(const std::uint8_t* of)
      : place(_mm512_maskz_cvtepu8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(of)))),
        third(_mm512_test_epi32_mask(place, _mm512_set1_epi32(32))),
        fifth(_mm512_test_epi32_mask(place, _mm512_set1_epi32(64))),
        ninth(_mm512_test_epi32_mask(place, _mm512_set1_epi32(128))) {}
  Places() = default;

  __m512i operator()(const __m512i (&group)[Block / 16]) const {
    if constexpr (Block > 128) {
      return _mm512_mask_mov_epi32(eight(group), ninth, eight(group + 8));
    } else if constexpr (Block > 64) {
      return eight(group);
    } else if constexpr (Block > 32) {
      return four(group);
    } else {
      return two(group);
    }
  }

 private:
  __m512i two(const __m512i* group) const { return _mm512_permutex2var_epi32(group[0], place, group[1]); }
  __m512i four(const __m512i* group) const { return _mm512_mask_mov_epi32(two(group), third, two(group + 2)); }
  __m512i eight(const __m512i* group) const { return _mm512_mask_mov_epi32(four(group), fifth, four(group + 4)); }
};

// y of T tokens from `token` on and the rows from n to n + Block, as far as there are so many (`rows`). sums: [Block /
// 16][T][16], by place. place: the row's; of all rows of a block, as is scale. Up to 64 outputs of a token at a time are
// brought back into the order of the rows: whole lines of y next to each other, and sums that are loaded once for all of
// them.
template <int T, int Block>
void write_unit(const LinearTask& task, std::int64_t rows, std::int64_t n, const std::uint8_t* place, const float* scale, std::int64_t token,
                const std::int32_t* sums) {
  constexpr int kGroups = Block / 16, kAtOnce = kGroups < 4 ? kGroups : 4;
  for (const std::int64_t end = rows - n < Block ? rows : n + Block; n < end; n += 16 * kAtOnce) {
    Places<Block> sorted[kAtOnce];
    __m512 of_row[kAtOnce], bias[kAtOnce];
    __mmask16 mask[kAtOnce];
    UNROLL4 for (int i = 0; i < kAtOnce; ++i) {
      const std::int64_t from = n + 16 * i;
      mask[i] = static_cast<__mmask16>(end - from >= 16 ? 0xFFFF : end > from ? (1 << (end - from)) - 1 : 0);
      sorted[i] = Places<Block>(place + from);
      of_row[i] = _mm512_loadu_ps(scale + from);
      // Adding -0 changes no bit of any number: "no bias" needs no branch.
      bias[i] = task.bias != nullptr ? _mm512_maskz_loadu_ps(mask[i], task.bias + from) : _mm512_set1_ps(-0.0f);
    }
    float* y = task.y + token * task.ldy + n;
    for (int t = 0; t < T; ++t, y += task.ldy) {
      const __m512 of_token = _mm512_set1_ps(task.x_scale[token + t]);
      __m512i group[kGroups];
      UNROLL16 for (int g = 0; g < kGroups; ++g) group[g] = _mm512_load_si512(sums + 16 * (T * g + t));
      UNROLL4 for (int i = 0; i < kAtOnce; ++i) {
        const __m512 sum = _mm512_maskz_cvtepi32_ps(kAll, sorted[i](group)), factor = _mm512_mul_ps(of_token, of_row[i]);
        _mm512_mask_storeu_ps(y + 16 * i, mask[i], _mm512_add_ps(_mm512_mul_ps(sum, factor), bias[i]));
      }
    }
  }
}

}  // namespace
}  // namespace aerogel

#undef UNROLL4
#undef UNROLL16
