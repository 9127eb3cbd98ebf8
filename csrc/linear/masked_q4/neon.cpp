// masked_q4 on Advanced SIMD: every panel is decoded into scratch, where the tile of dense_q8 reads it. First its values become
// bytes, looked up if they are indices of a table; then, as in masked_q8, a tbl of 16 of them spreads them out. Tested in
// emulation, not yet timed on hardware.
#include "linear/dense_q8/tile_neon.h"
#include "linear/linear.h"
#include "linear/masked_q4/layout.h"

namespace aerogel {
namespace {

// The place of its value among the next ones, for each bit of a byte of mask; 128: none.
struct Places {
  alignas(64) std::uint8_t of[256][8];

  constexpr Places() : of() {
    for (int m = 0; m < 256; ++m) {
      std::uint8_t place = 0;
      for (int b = 0; b < 8; ++b) of[m][b] = (m >> b & 1) != 0 ? place++ : std::uint8_t{128};
    }
  }
};
constexpr Places kPlaces;

// Values of a panel, one in a byte; may write 31 beyond.
void unpack(const MaskedQ4View& w, std::int64_t panel, std::uint8_t* out) {
  const std::uint8_t* values = w.values + w.panel_begin[panel] / 2;
  const std::int64_t count = w.panel_begin[panel + 1] - w.panel_begin[panel];
  const uint8x16_t levels = vreinterpretq_u8_s8(vld1q_s8(w.levels + panel * 16));
  for (std::int64_t i = 0; i < count; i += 32, values += 16) {
    const uint8x16_t both = vld1q_u8(values), low = vandq_u8(both, vdupq_n_u8(15)), high = vshrq_n_u8(both, 4);
    uint8x16_t first = vzip1q_u8(low, high), second = vzip2q_u8(low, high);
    if (!w.linear) {
      first = vqtbl1q_u8(levels, first);
      second = vqtbl1q_u8(levels, second);
    }
    vst1q_u8(out + i, first);
    vst1q_u8(out + i + 16, second);
  }
}

void decode(const MaskedQ4View& w, std::int64_t panel, const std::uint8_t* values, std::int8_t* dense) {
  const auto* mask = reinterpret_cast<const std::uint8_t*>(w.mask + panel * kRows * w.k_padded / 64);
  for (std::int64_t k = 0; k < w.k_padded; k += 16) {
    const std::int64_t group = (panel * w.groups + k / w.group) * kRows;
    for (int r = 0; r < kRows; ++r, mask += 2, dense += 16) {
      const int first = __builtin_popcount(mask[0]);
      const uint8x8_t low = vld1_u8(kPlaces.of[mask[0]]);
      const uint8x8_t high = vadd_u8(vld1_u8(kPlaces.of[mask[1]]), vdup_n_u8(static_cast<std::uint8_t>(first)));
      const uint8x16_t value = vqtbl1q_u8(vld1q_u8(values), vcombine_u8(low, high));
      values += first + __builtin_popcount(mask[1]);
      const int8x16_t zero = vdupq_n_s8(w.zero != nullptr ? w.zero[group + r] : w.same_zero);
      int8x16_t code = vsubq_s8(veorq_s8(vreinterpretq_s8_u8(value), zero), zero);
      if (w.multiplier != nullptr) code = vmulq_s8(code, vreinterpretq_s8_u8(vdupq_n_u8(w.multiplier[group + r])));
      vst1q_s8(dense, code);
    }
  }
}

}  // namespace

void run_masked_q4_neon(const LinearTask& task) {
  const MaskedQ4View& w = *static_cast<const MaskedQ4View*>(task.weight);
  auto* const dense = static_cast<std::int8_t*>(task.scratch);
  auto* const values = reinterpret_cast<std::uint8_t*>(dense + kRows * w.k_padded);
  run_panels(task, w.n, w.k_padded, w.scale, [&](std::int64_t panel) {
    unpack(w, panel, values);
    decode(w, panel, values, dense);
    return static_cast<const std::int8_t*>(dense);
  });
}

}  // namespace aerogel
