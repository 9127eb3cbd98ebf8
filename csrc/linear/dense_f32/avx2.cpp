// Bound by the two FMA units: 12 FMA, 2 weight loads and 6 broadcasts per k, 6 cycles.
// Measured at 128 tokens on one Zen 3 thread while other work kept both cores busy, against an FMA loop in the same run
// (at most 51.8 GMAC/s): medians of 51 to 64 % of it, and up to 84 % in quieter minutes; best single samples 46 GMAC/s, 89 %,
// at 384x384, 32 to 38 GMAC/s at 4096x4096. Not yet measured on a quiet machine, and kChunk was not settled by that noise.
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
