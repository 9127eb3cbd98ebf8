// What gathered_q8 and gathered_rows_q8 share on AVX-512: the windows of a chunk of activations, and sets of units. Internal linkage:
// each kernel file compiles its own copy.
//
// Scratch holds, for one chunk of K and T tokens, every window of 64 columns in steps of 32 whole ([window][T][64]), so that no gather
// crosses a cache line (measured on Emerald Rapids: 1.31 instead of 1.14 cycles for a gather and a product): columns stand there twice.
// 24 windows of 16 tokens, 24 KB, stay in L1; 32 KB took 1.20 cycles and 40 KB 1.36.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "linear/linear.h"

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

}  // namespace
}  // namespace aerogel
