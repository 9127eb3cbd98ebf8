// Sixteen weights are one vpexpandd of widened values. One token: bound by it and the instructions around it, unless memory is
// slower. Many: by the FMA units, as dense_f32. Correct under emulation, not yet measured on a CPU.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#endif

#include "linear/dense_f32/tile_avx512vnni.h"
#include "linear/masked_bf16/layout.h"

namespace aerogel {
namespace {

// The next values, each in the lane of its bit; 0 in the others.
inline __m512 expand(const std::uint16_t* values, std::uint32_t mask) {
  const __m256i next = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
  __m512i words = _mm512_slli_epi32(_mm512_cvtepu16_epi32(next), 16);
  // In place: with another destination the zeroing form waits for what that register held before.
  __asm__("vpexpandd %0, %0%{%1%}%{z%}" : "+v"(words) : "Yk"(static_cast<__mmask16>(mask)));
  return _mm512_castsi512_ps(words);
}

struct MaskedRows {
  const std::uint8_t* mask;
  const std::uint16_t* values;

  template <bool Stream>
  void next(__m512& w0, __m512& w1) {
    if (Stream) {
      prefetch(mask + kAheadBytes);
      prefetch(reinterpret_cast<const char*>(values) + kAheadBytes);
    }
    std::uint32_t bits;
    __builtin_memcpy(&bits, mask, sizeof bits);
    w0 = expand(values, bits & 0xffff);
    w1 = expand(values + __builtin_popcount(bits & 0xffff), bits >> 16);
    values += __builtin_popcount(bits);
    mask += kPanel / 8;
  }
};

struct Source : masked_bf16::View {
  static constexpr std::int64_t kStep = masked_bf16::kSection;

  MaskedRows rows(std::int64_t unit, std::int64_t column) const {
    return {masks + (unit * k + column) * (kPanel / 8), values + begin[unit * sections + column / masked_bf16::kSection]};
  }
  MaskedRows stream(std::int64_t unit) const { return rows(unit, 0); }
  FloatRows block(std::int64_t unit, std::int64_t column, std::int64_t count, float* spare) const {
    MaskedRows from = rows(unit, column);
    for (float* out = spare; count > 0; --count, out += kPanel) {
      __m512 w0, w1;
      from.next<false>(w0, w1);
      _mm512_store_ps(out, w0);
      _mm512_store_ps(out + 16, w1);
    }
    return {spare};
  }
  void fetch(std::int64_t, std::int64_t, std::int64_t) const {}  // read once for all tiles, in order
};

}  // namespace

void run_masked_bf16_avx512vnni(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const masked_bf16::View*>(task.weight)});
}

}  // namespace aerogel
