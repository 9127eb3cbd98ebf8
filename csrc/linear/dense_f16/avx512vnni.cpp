// One token: bound by reading the weights, half the bytes of dense_f32. Many: by the FMA units, as dense_f32; a chunk of a panel is
// widened once for all its tiles. Correct under emulation, not yet measured on a CPU.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#endif

#include "linear/dense_f16/layout.h"
#include "linear/dense_f32/tile_avx512vnni.h"

namespace aerogel {
namespace {

struct F16Rows {
  const std::uint16_t* w;

  template <bool Stream>
  void next(__m512& w0, __m512& w1) {
    if (Stream) prefetch(reinterpret_cast<const char*>(w) + kAheadBytes);
    w0 = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(w)));
    w1 = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(w + 16)));
    w += kPanel;
  }
};

struct Source : dense_f16::View {
  static constexpr std::int64_t kStep = 16;

  F16Rows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  FloatRows block(std::int64_t unit, std::int64_t begin, std::int64_t count, float* spare) const {
    F16Rows from{panels + (unit * k + begin) * kPanel};
    for (float* out = spare; count > 0; --count, out += kPanel) {
      __m512 w0, w1;
      from.next<false>(w0, w1);
      _mm512_store_ps(out, w0);
      _mm512_store_ps(out + 16, w1);
    }
    return {spare};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; ++begin) _mm_prefetch(reinterpret_cast<const char*>(panels + (unit * k + begin) * kPanel), _MM_HINT_T1);
  }
};

}  // namespace

void run_dense_f16_avx512vnni(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_f16::View*>(task.weight)});
}

}  // namespace aerogel
