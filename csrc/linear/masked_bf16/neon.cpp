// Eight weights are one table lookup: a row of kSpread says for each byte of mask where the next values go, and zeros elsewhere. One
// token: bound by the instructions around it. Many: by the FMA pipes, as dense_f32. Correct under emulation, not measured.
#include "linear/dense_f32/tile_neon.h"
#include "linear/masked_bf16/layout.h"

namespace aerogel {
namespace {

// Row m of bytes: the lookup among 8 values that puts value j where dense_bf16 has the row of the j-th bit of m, two rows to a
// 32-bit word. count: its bits.
struct Spread {
  alignas(64) std::uint8_t bytes[256][16];
  std::uint8_t count[256];

  constexpr Spread() : bytes{}, count{} {
    for (int mask = 0; mask < 256; ++mask) {
      int next = 0;
      for (int lane = 0; lane < 8; ++lane) {
        const bool stored = (mask >> lane) & 1;
        const int place = lane % 4 * 4 + lane / 4 * 2;
        bytes[mask][place] = static_cast<std::uint8_t>(stored ? 2 * next : 0xff);  // the lookup gives 0
        bytes[mask][place + 1] = static_cast<std::uint8_t>(stored ? 2 * next + 1 : 0xff);
        next += stored;
      }
      count[mask] = static_cast<std::uint8_t>(next);
    }
  }
};
constexpr Spread kSpread;

struct MaskedRows {
  const std::uint8_t* mask;
  const std::uint16_t* values;

  void next(float32x4_t& w0, float32x4_t& w1) {
    const uint8x16_t next = vreinterpretq_u8_u16(vld1q_u16(values));
    const uint32x4_t words = vreinterpretq_u32_u8(vqtbl1q_u8(next, vld1q_u8(kSpread.bytes[*mask])));
    w0 = vreinterpretq_f32_u32(vshlq_n_u32(words, 16));
    w1 = vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff0000u)));
    values += kSpread.count[*mask];
    ++mask;
  }
};

struct Source : masked_bf16::View {
  static constexpr std::int64_t kStep = masked_bf16::kSection;

  MaskedRows rows(std::int64_t unit, std::int64_t column) const {
    return {masks + unit * k + column, values + begin[unit * sections + column / masked_bf16::kSection]};
  }
  MaskedRows stream(std::int64_t unit) const { return rows(unit, 0); }
  FloatRows block(std::int64_t unit, std::int64_t column, std::int64_t count, float* spare) const {
    MaskedRows from = rows(unit, column);
    for (float* out = spare; count > 0; --count, out += kPanel) {
      float32x4_t w0, w1;
      from.next(w0, w1);
      vst1q_f32(out, w0);
      vst1q_f32(out + 4, w1);
    }
    return {spare};
  }
  void fetch(std::int64_t, std::int64_t, std::int64_t) const {}  // read once for all tiles, in order
};
static_assert(kPanel == 8, "one byte of mask a column");

}  // namespace

void run_masked_bf16_neon(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const masked_bf16::View*>(task.weight)});
}

}  // namespace aerogel
