// One token of masked_q8 on AVX-512 VBMI2: weights are expanded in registers and multiplied at once, a cache line of mask at a time,
// which is 32 rows x 16 columns. All in an anonymous namespace: no copy can be shared with code compiled for another instruction set.
//
// Bound, port 5 of Intel's cores: a word of mask (64 weights) costs vpexpandb 2 cycles of it, and its way into a mask register, kmovq,
// 1 more. Five words of eight go another way: one vgf2p8affineqb turns the line around, so that bit 7 - w of byte b says whether word w
// has bit b, and a shift and vpmovb2m, both of port 0, take word w from there. Port 5 has 20 cycles for eight words instead of 24,
// port 0 has 19. Prefetches, one for a line of mask and as many of values as it needs, were 1.5 a word and shared the load ports with
// the values, which mostly cross a line. (Measured before both, Emerald Rapids: 3.7 cycles a word at 90 % zeros. Not timed since.)
#pragma once

#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/linear.h"
#include "linear/masked_q8/layout.h"

namespace aerogel {
namespace {

#define UNROLL _Pragma("GCC unroll 16")

// Values to where the mask has bits, 128 to where it has none. From a register: from memory vpexpandb is slow. Merged into a
// copy of a constant: zero-masked it waits for what its destination was before. Not the intrinsic, whose instruction set the
// rest of this file, shared with the dense kernel, must not assume.
inline __m512i expand(std::uint64_t mask, __m512i values) {
  __m512i w = _mm512_set1_epi8(-128);
  __asm__("vpexpandb %[values], %[w] %{%[mask]%}" : [w] "+v"(w) : [values] "v"(values), [mask] "Yk"(mask));
  return w;
}

// Bits 7 .. 0 of byte j of each lane: how often, modulo 2, bytes 0 .. 7 of the lane of `matrix` have a bit of byte j of `x`.
inline __m512i parities(__m512i x, __m512i matrix) {
  __m512i made;
  __asm__("vgf2p8affineqb $0, %[matrix], %[x], %[made]" : [made] "=v"(made) : [matrix] "v"(matrix), [x] "v"(x));
  return made;
}

// Bit 7 - w of byte b: bit b of word w.
inline __m512i turn(__m512i words) {
  // Byte 8 i + w: byte i of word w.
  const __m512i order = _mm512_setr_epi64(0x3830282018100800, 0x3931292119110901, 0x3a322a221a120a02, 0x3b332b231b130b03,
                                          0x3c342c241c140c04, 0x3d352d251d150d05, 0x3e362e261e160e06, 0x3f372f271f170f07);
  const __m512i bit = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201));
  // 0; but Bochs (2.7), by which this is tested, has the parities upside down, and this too.
  const __m512i zero = parities(bit, _mm512_setzero_si512());
  return _mm512_xor_si512(parities(bit, _mm512_permutexvar_epi8(order, words)), zero);
}

// The mask of word W.
template <int W>
inline __mmask64 mask_of(std::uint64_t word, __m512i turned) {
  if (W == 1 || W == 4 || W == 7) return word;
  return _mm512_movepi8_mask(_mm512_slli_epi64(turned, W));
}

// Sums of 32 rows and 4 columns += words W, W + 1 of a line.
template <int W>
inline void two_words(const std::uint64_t* mask, __m512i turned, const std::int8_t*& values, const std::int8_t* x, __m512i& low, __m512i& high) {
  const __m512i first = expand(mask_of<W>(mask[W], turned), _mm512_loadu_si512(values));
  values += __builtin_popcountll(mask[W]);
  const __m512i second = expand(mask_of<W + 1>(mask[W + 1], turned), _mm512_loadu_si512(values));
  values += __builtin_popcountll(mask[W + 1]);
  multiply_add(low, high, first, second, reinterpret_cast<const Four*>(x + 2 * W));
}

// All panels of a call. Ahead: cache lines of values to be fetched for a line of mask.
template <int Ahead>
void one_token(const LinearTask& task, const MaskedQ8View& w, std::int32_t start) {
  const auto* const x = static_cast<const std::int8_t*>(task.x);
  for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
    const std::uint64_t* mask = w.mask + panel * kRows * w.k_padded / 64;
    const std::int8_t* values = w.values + w.panel_begin[panel];
    __m512i low[2] = {_mm512_set1_epi32(start), _mm512_setzero_si512()};
    __m512i high[2] = {low[0], low[1]};
    for (std::int64_t k = 0; k < w.k_padded; k += 16, mask += 8) {
      _mm_prefetch(reinterpret_cast<const char*>(mask) + kPrefetchBytes, _MM_HINT_T0);
      UNROLL for (int i = 0; i < Ahead; ++i)
        _mm_prefetch(reinterpret_cast<const char*>(values + kPrefetchBytes + 64 * i), _MM_HINT_T0);
      const __m512i turned = turn(_mm512_load_si512(mask));
      two_words<0>(mask, turned, values, x + k, low[0], high[0]);
      two_words<2>(mask, turned, values, x + k, low[1], high[1]);
      two_words<4>(mask, turned, values, x + k, low[0], high[0]);
      two_words<6>(mask, turned, values, x + k, low[1], high[1]);
    }
    const Finish finish(task, w.n, w.scale, panel, 0);
    finish(0, _mm512_add_epi32(low[0], low[1]), _mm512_add_epi32(high[0], high[1]));
  }
}

[[maybe_unused]] void run_one_token(const LinearTask& task, const MaskedQ8View& w) {
  const auto* const x = static_cast<const std::int8_t*>(task.x);
  __m512i sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t k = 0; k < w.k_padded; k += 64) sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(x + k));
  const std::int32_t start = -_mm512_reduce_add_epi32(_mm512_slli_epi32(sum, 7));

  // Values of a line of mask, a quarter more than on average, for lines differ.
  const std::int64_t lines = (task.unit_end - task.unit_begin) * w.k_padded / 16;
  const std::int64_t bytes = (w.panel_begin[task.unit_end] - w.panel_begin[task.unit_begin]) * 5 / 4 / lines;
  if (bytes <= 128) return one_token<2>(task, w, start);
  if (bytes <= 192) return one_token<3>(task, w, start);
  if (bytes <= 320) return one_token<5>(task, w, start);
  one_token<8>(task, w, start);
}

#undef UNROLL

}  // namespace
}  // namespace aerogel
