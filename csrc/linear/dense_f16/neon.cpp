// One token: bound by reading the weights, half the bytes of dense_f32. Many: by the FMA pipes, as dense_f32; a chunk of a panel is
// widened once for all its tiles. Correct under emulation, not measured.
#include "linear/dense_f16/layout.h"
#include "linear/dense_f32/tile_neon.h"

namespace aerogel {
namespace {

struct F16Rows {
  const std::uint16_t* w;

  void next(float32x4_t& w0, float32x4_t& w1) {
    const uint16x8_t codes = vld1q_u16(w);
    w0 = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(codes)));
    w1 = vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(codes)));
    w += kPanel;
  }
};

struct Source : dense_f16::View {
  static constexpr std::int64_t kStep = 4;

  F16Rows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  FloatRows block(std::int64_t unit, std::int64_t begin, std::int64_t count, float* spare) const {
    F16Rows from{panels + (unit * k + begin) * kPanel};
    for (float* out = spare; count > 0; --count, out += kPanel) {
      float32x4_t w0, w1;
      from.next(w0, w1);
      vst1q_f32(out, w0);
      vst1q_f32(out + 4, w1);
    }
    return {spare};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; begin += 4) __builtin_prefetch(panels + (unit * k + begin) * kPanel, 0, 2);
  }
};

}  // namespace

void run_dense_f16_neon(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_f16::View*>(task.weight)});
}

}  // namespace aerogel
