// One token: bound by reading the weights, half the bytes of dense_f32. Many: by the FMA units, as dense_f32; a shift and an AND a
// column widen two registers of weights. Correct under emulation, not yet measured on a CPU.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#endif

#include "linear/dense_bf16/layout.h"
#include "linear/dense_f32/tile_avx512vnni.h"

namespace aerogel {
namespace {

struct Bf16Rows {
  const std::uint16_t* w;

  template <bool Stream>
  void next(__m512& w0, __m512& w1) {
    if (Stream) prefetch(reinterpret_cast<const char*>(w) + kAheadBytes);
    const __m512i words = _mm512_load_si512(w);
    w0 = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    w1 = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    w += kPanel;
  }
};

struct Source : dense_bf16::View {
  static constexpr std::int64_t kStep = 16;

  Bf16Rows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  Bf16Rows block(std::int64_t unit, std::int64_t begin, std::int64_t, float*) const {
    return {panels + (unit * k + begin) * kPanel};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; ++begin) _mm_prefetch(reinterpret_cast<const char*>(panels + (unit * k + begin) * kPanel), _MM_HINT_T1);
  }
};

}  // namespace

void run_dense_bf16_avx512vnni(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_bf16::View*>(task.weight)});
}

}  // namespace aerogel
