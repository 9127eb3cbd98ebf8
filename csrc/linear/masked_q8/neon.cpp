// masked_q8 on Advanced SIMD: every panel is expanded into scratch, where the dense tile reads it, 4 rows x K bytes that stay in
// L1. Sixteen weights cost two lookups of 8 places, a tbl, which writes 0 where a place is beyond the 16 values loaded, and a
// store. Tested in emulation, not yet timed on hardware.
#include "linear/dense_q8/tile_neon.h"
#include "linear/linear.h"
#include "linear/masked_q8/layout.h"

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

void expand(const std::uint8_t* mask, const std::int8_t* values, std::int64_t bytes, std::int8_t* dense) {
  for (std::int64_t i = 0; i < bytes; i += 16, mask += 2, dense += 16) {
    const int first = __builtin_popcount(mask[0]);
    const uint8x8_t low = vld1_u8(kPlaces.of[mask[0]]);
    const uint8x8_t high = vadd_u8(vld1_u8(kPlaces.of[mask[1]]), vdup_n_u8(static_cast<std::uint8_t>(first)));
    vst1q_s8(dense, vqtbl1q_s8(vld1q_s8(values), vcombine_u8(low, high)));
    values += first + __builtin_popcount(mask[1]);
  }
}

}  // namespace

void run_masked_q8_neon(const LinearTask& task) {
  const MaskedQ8View& w = *static_cast<const MaskedQ8View*>(task.weight);
  auto* const dense = static_cast<std::int8_t*>(task.scratch);
  const std::int64_t bytes = kRows * w.k_padded;
  run_panels(task, w.n, w.k_padded, w.scale, [&](std::int64_t panel) {
    expand(reinterpret_cast<const std::uint8_t*>(w.mask) + panel * bytes / 8, w.values + w.panel_begin[panel], bytes, dense);
    return static_cast<const std::int8_t*>(dense);
  });
}

}  // namespace aerogel
