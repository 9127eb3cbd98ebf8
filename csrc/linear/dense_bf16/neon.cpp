// One token: bound by reading the weights, half the bytes of dense_f32. Many: by the FMA pipes, as dense_f32, and a shift and an AND a
// column. Correct under emulation, not measured.
#include "linear/dense_bf16/layout.h"
#include "linear/dense_f32/tile_neon.h"

namespace aerogel {
namespace {

struct Bf16Rows {
  const std::uint16_t* w;

  void next(float32x4_t& w0, float32x4_t& w1) {
    const uint32x4_t words = vreinterpretq_u32_u16(vld1q_u16(w));
    w0 = vreinterpretq_f32_u32(vshlq_n_u32(words, 16));
    w1 = vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff0000u)));
    w += kPanel;
  }
};

struct Source : dense_bf16::View {
  static constexpr std::int64_t kStep = 4;

  Bf16Rows stream(std::int64_t unit) const { return {panels + unit * kPanel * k}; }
  Bf16Rows block(std::int64_t unit, std::int64_t begin, std::int64_t, float*) const {
    return {panels + (unit * k + begin) * kPanel};
  }
  void fetch(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; begin += 4) __builtin_prefetch(panels + (unit * k + begin) * kPanel, 0, 2);
  }
};

}  // namespace

void run_dense_bf16_neon(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const dense_bf16::View*>(task.weight)});
}

}  // namespace aerogel
