// Bound by the two FMA units: 28 FMA, 2 weight loads and 14 broadcasts per k, 14 cycles. Not yet measured on a CPU.
#include "linear/dense_f32/tile_avx512vnni.h"

namespace aerogel {
namespace {

struct Source : dense_f32::View {
  static constexpr std::int64_t kStep = 16;

  FloatRows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  FloatRows block(std::int64_t unit, std::int64_t begin, std::int64_t, float*) const {
    return {panels + (unit * k + begin) * kPanel};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; ++begin)
      for (int line = 0; line < 2; ++line)
        _mm_prefetch(reinterpret_cast<const char*>(panels + (unit * k + begin) * kPanel + 16 * line), _MM_HINT_T1);
  }
};

}  // namespace

void run_dense_f32_avx512vnni(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_f32::View*>(task.weight)});
}

}  // namespace aerogel
