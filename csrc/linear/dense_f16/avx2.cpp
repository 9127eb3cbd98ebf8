// One token: bound by reading the weights, half the bytes of dense_f32. Many: by the two FMA units, as dense_f32; two conversions a
// column widen the weights, which on Zen are made beside the FMAs. (Elsewhere they may take one slot of 14 of the FMA units.)
// Measured on one Zen 3 thread of a busy machine, shortest of interleaved calls: 768x768, 1536x384 and 384x1536 in the caches 1.94 to
// 1.97 times as fast as dense_f32 for one token, 1.02 to 1.23 times from 7 to 64 tokens, 0.94 to 1.03 times at 128. A chunk of a panel
// widened into scratch once for all its tiles: 0.87 to 0.97 times dense_f32 at 7 and 16 tokens, the same at 128.
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
  F16Rows block(std::int64_t unit, std::int64_t begin, std::int64_t, float*) const {
    return {panels + (unit * k + begin) * kPanel};
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
