// Bound by the FMA pipes: 16 FMA by element per k, 2 weight loads, and 2 loads of x. Correct under emulation, not measured.
#include "linear/dense_f32/tile_neon.h"

namespace aerogel {
namespace {

struct Source : dense_f32::View {
  static constexpr std::int64_t kStep = 4;

  FloatRows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  FloatRows block(std::int64_t unit, std::int64_t begin, std::int64_t, float*) const {
    return {panels + (unit * k + begin) * kPanel};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; ++begin) __builtin_prefetch(panels + (unit * k + begin) * kPanel, 0, 2);
  }
};

}  // namespace

void run_dense_f32_neon(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_f32::View*>(task.weight)});
}

}  // namespace aerogel
