// The reference: bit by bit, in the order of layout.h.
#include "linear/linear.h"
#include "linear/masked_q4/layout.h"

namespace aerogel {

void run_masked_q4_scalar(const LinearTask& task) {
  const MaskedQ4View& w = *static_cast<const MaskedQ4View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  constexpr std::int64_t R = kDenseQ4Scalar.rows, G = kDenseQ4Scalar.group;

  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * R, words = R * w.k_padded / 64;
    for (std::int64_t m = 0; m < task.m; ++m) {
      const std::int8_t* xm = x + m * task.ldx;
      std::int64_t value = w.panel_begin[unit];
      std::int32_t sum[R] = {};
      for (std::int64_t j = 0; j < words; ++j)
        for (std::uint64_t bits = w.mask[unit * words + j]; bits != 0; bits &= bits - 1, ++value) {
          const int b = __builtin_ctzll(bits);
          const std::int64_t r = b / G, k = j * G + b % G, group = (unit * w.groups + k / w.group) * R + r;
          const int zero = w.zero != nullptr ? w.zero[group] : w.same_zero;
          const int index = (w.values[value / 2] >> (value % 2 * 4) & 15) ^ zero;
          const int code = (w.levels[unit * 16 + index] - zero) * (w.multiplier != nullptr ? w.multiplier[group] : 1);
          sum[r] += static_cast<std::int32_t>(xm[k]) * code;
        }
      for (std::int64_t r = 0; r < R && first + r < w.n; ++r) {
        float y = static_cast<float>(sum[r]) * (task.x_scale[m] * w.scale[first + r]);
        if (task.bias != nullptr) y = y + task.bias[first + r];
        task.y[m * task.ldy + first + r] = y;
      }
    }
  }
}

}  // namespace aerogel
