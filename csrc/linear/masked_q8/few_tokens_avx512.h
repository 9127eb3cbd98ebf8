// One to four tokens of masked_q8 on AVX-512 VBMI2: weights are expanded in registers and multiplied at once, a cache line
// of mask at a time, which is 32 rows x 16 columns. All in an anonymous namespace: no copy can be shared with code compiled
// for another instruction set.
//
// Bound on Intel's cores, port 5: a word of mask (64 weights) costs vpexpandb 2 cycles of it, and its way into a mask
// register, kmovq, 1 more. So five words of eight go another way there: one vgf2p8affineqb turns the line around, so that
// bit 7 - w of byte b says whether word w has bit b, and a shift and vpmovb2m, both of port 0, take word w from there. Port
// 5 has 20 cycles for eight words instead of 24, port 0 has 19. (Measured before on Emerald Rapids: 3.7 cycles a word at 90
// % zeros.) On Zen 5 all of that shares two pipes with vpexpandb, which has 1 cycle of them; kmovq from memory has half a
// cycle, from a general register one. Eight of those take 1.7 cycles a word, three and five 2.0.
//
// The other bound are loads: values mostly cross a line, which is two. Where no word of a panel has more than 32 (usual from
// 80 % zeros on), half a register is loaded, which crosses half as often: together with products that wait for eight words,
// 2.3 -> 1.7 cycles a word on Zen 5 (768x768 in cache, 90 % zeros: 5.2 -> 3.7 us; two tokens 6.0 -> 4.5, four 7.0 -> 6.1).
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
inline __m512i expand(__mmask64 mask, __m512i values) {
  __m512i w = _mm512_set1_epi8(-128);
  __asm__("vpexpandb %[values], %[w] %{%[mask]%}" : [w] "+v"(w) : [values] "v"(values), [mask] "Yk"(mask));
  return w;
}

// From memory: from a general register it takes twice as long on Zen 5, and as long elsewhere.
inline __mmask64 load_mask(const std::uint64_t* word) {
  __mmask64 mask;
  __asm__("kmovq %[word], %[mask]" : [mask] "=Yk"(mask) : [word] "m"(*word));
  return mask;
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

// How a call is run.
template <int Tokens, int Lines, bool Half, bool Amd>
struct Few {
  static constexpr int kTokens = Tokens;
  static constexpr int kLines = Lines;  // cache lines of values to be fetched for a line of mask
  static constexpr bool kHalf = Half;   // no word has more than 32 values
  static constexpr bool kAmd = Amd;     // masks come from memory only
};

// Word W of a line, expanded.
template <class How, int W>
INLINE __m512i word(const std::uint64_t* mask, __m512i turned, const std::int8_t*& values) {
  __m512i packed;
  if constexpr (How::kHalf) packed = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
  else packed = _mm512_loadu_si512(values);
  values += __builtin_popcountll(mask[W]);
  if constexpr (How::kAmd || W == 1 || W == 4 || W == 7) return expand(load_mask(mask + W), packed);
  else return expand(_mm512_movepi8_mask(_mm512_slli_epi64(turned, W)), packed);
}

// Panels [begin, end). start: of the sums of each token.
template <class How>
void few_tokens(const LinearTask& task, const MaskedQ8View& w, const std::int32_t* start, std::int64_t begin,
                std::int64_t end) {
  constexpr int T = How::kTokens;
  const auto* const x = static_cast<const std::int8_t*>(task.x);
  for (std::int64_t panel = begin; panel < end; ++panel) {
    const std::uint64_t* mask = w.mask + panel * kRows * w.k_padded / 64;
    const std::int8_t* values = w.values + w.panel_begin[panel];
    __m512i low[T][2], high[T][2];  // two of each, for the latency of vpdpbusd
    UNROLL for (int t = 0; t < T; ++t) {
      low[t][0] = high[t][0] = _mm512_set1_epi32(start[t]);
      low[t][1] = high[t][1] = _mm512_setzero_si512();
    }
    for (std::int64_t k = 0; k < w.k_padded; k += 16, mask += 8) {
      _mm_prefetch(reinterpret_cast<const char*>(mask) + kPrefetchBytes, _MM_HINT_T0);
      UNROLL for (int i = 0; i < How::kLines; ++i)
        _mm_prefetch(reinterpret_cast<const char*>(values + kPrefetchBytes + 64 * i), _MM_HINT_T0);
      __m512i turned = _mm512_setzero_si512();
      if constexpr (!How::kAmd) turned = turn(_mm512_load_si512(mask));
      const __m512i a = word<How, 0>(mask, turned, values), b = word<How, 1>(mask, turned, values);
      const __m512i c = word<How, 2>(mask, turned, values), d = word<How, 3>(mask, turned, values);
      const __m512i e = word<How, 4>(mask, turned, values), f = word<How, 5>(mask, turned, values);
      const __m512i g = word<How, 6>(mask, turned, values), h = word<How, 7>(mask, turned, values);
      UNROLL for (int t = 0; t < T; ++t) {
        const auto* const four = reinterpret_cast<const Four*>(x + t * task.ldx + k);
        multiply_add(low[t][0], high[t][0], a, b, four);
        multiply_add(low[t][1], high[t][1], c, d, four + 1);
        multiply_add(low[t][0], high[t][0], e, f, four + 2);
        multiply_add(low[t][1], high[t][1], g, h, four + 3);
      }
    }
    const Finish finish(task, w.n, w.scale, panel, 0);
    UNROLL for (int t = 0; t < T; ++t)
      finish(t, _mm512_add_epi32(low[t][0], low[t][1]), _mm512_add_epi32(high[t][0], high[t][1]));
  }
}

template <int Tokens, bool Half, bool Amd>
void few_tokens(const LinearTask& task, const MaskedQ8View& w, const std::int32_t* start, std::int64_t begin,
                std::int64_t end) {
  // Values of a line of mask, a quarter more than on average, for lines differ.
  const std::int64_t bytes = (w.panel_begin[end] - w.panel_begin[begin]) * 5 / 4 / ((end - begin) * w.k_padded / 16);
  if (Half && bytes <= 128) return few_tokens<Few<Tokens, 2, Half, Amd>>(task, w, start, begin, end);
  if (Half && bytes <= 192) return few_tokens<Few<Tokens, 3, Half, Amd>>(task, w, start, begin, end);
  if (Half || bytes <= 320) return few_tokens<Few<Tokens, 5, Half, Amd>>(task, w, start, begin, end);
  few_tokens<Few<Tokens, 8, Half, Amd>>(task, w, start, begin, end);
}

template <int Tokens>
void run_few_tokens(const LinearTask& task, const MaskedQ8View& w) {
  const auto* const x = static_cast<const std::int8_t*>(task.x);
  const __m512i ones = _mm512_set1_epi8(1);
  std::int32_t start[Tokens];
  for (int t = 0; t < Tokens; ++t) {
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t k = 0; k < w.k_padded; k += 64)
      sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(x + t * task.ldx + k));
    // Modulo 2^32, as the sums are.
    start[t] = static_cast<std::int32_t>(0u - (static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum)) << 7));
  }
  const bool amd = __builtin_cpu_is("amd");
  for (std::int64_t begin = task.unit_begin, end; begin < task.unit_end; begin = end) {
    const bool half = w.most[begin] <= 32;
    for (end = begin + 1; end < task.unit_end && (w.most[end] <= 32) == half;) ++end;
    const auto run = half ? amd ? few_tokens<Tokens, true, true> : few_tokens<Tokens, true, false>
                          : amd ? few_tokens<Tokens, false, true> : few_tokens<Tokens, false, false>;
    run(task, w, start, begin, end);
  }
}

#undef UNROLL

}  // namespace
}  // namespace aerogel
