// Bound by the two FMA units: 12 FMA, 2 weight loads and 6 broadcasts per k, 6 cycles.
// Measured on one Zen 3 thread of a busy machine against an FMA loop in the same run (51.8 GMAC/s), shortest of many calls:
// 768x768 and 192x768 at 128 tokens 47.3 GMAC/s, 91 to 92 %; 3072x768 and 768x3072, timed by slices of a call, 82 to 85 %; 16 tokens
// 84 to 86 %. In minutes when neighbours press on the caches whole runs stay at 65 to 75 % while the FMA loop loses nothing.
// Chunks of 192, 256 and 320 columns instead of 384: 0.97 to 1.01x.
#include "linear/dense_f32/tile_avx2.h"

namespace aerogel {
namespace {

struct Source : dense_f32::View {
  static constexpr std::int64_t kStep = 8;

  FloatRows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  FloatRows block(std::int64_t unit, std::int64_t begin, std::int64_t, float*) const {
    return {panels + (unit * k + begin) * kPanel};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; ++begin) _mm_prefetch(reinterpret_cast<const char*>(panels + (unit * k + begin) * kPanel), _MM_HINT_T1);
  }
};

}  // namespace

void run_dense_f32_avx2(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_f32::View*>(task.weight)});
}

}  // namespace aerogel
