// One token: bound by reading the weights, half the bytes of dense_f32. Many: by the two FMA units, as dense_f32. Widening takes one of
// them too on some CPUs, so a chunk of a panel is widened once for all its tiles.
#include "linear/dense_f16/layout.h"
#include "linear/dense_f32/tile_avx2.h"

namespace aerogel {
namespace {

struct F16Rows {
  const std::uint16_t* w;

  template <bool Stream>
  void next(__m256& w0, __m256& w1) {
    if (Stream) prefetch(reinterpret_cast<const char*>(w) + kAheadBytes);
    w0 = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(w)));
    w1 = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(w + 8)));
    w += kPanel;
  }
};

struct Source : dense_f16::View {
  static constexpr std::int64_t kStep = 8;

  F16Rows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  FloatRows block(std::int64_t unit, std::int64_t begin, std::int64_t count, float* spare) const {
    F16Rows from{panels + (unit * k + begin) * kPanel};
    for (float* out = spare; count > 0; --count, out += kPanel) {
      __m256 w0, w1;
      from.next<false>(w0, w1);
      _mm256_store_ps(out, w0);
      _mm256_store_ps(out + 8, w1);
    }
    return {spare};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; begin += 2)
      _mm_prefetch(reinterpret_cast<const char*>(panels + (unit * k + begin) * kPanel), _MM_HINT_T1);
  }
};

}  // namespace

void run_dense_f16_avx2(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_f16::View*>(task.weight)});
}

}  // namespace aerogel
