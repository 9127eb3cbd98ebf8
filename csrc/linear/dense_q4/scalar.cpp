// The reference: index by index, in the order of layout.h.
#include "linear/dense_q4/layout.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_q4_scalar(const LinearTask& task) {
  const DenseQ4View& w = *static_cast<const DenseQ4View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  constexpr std::int64_t R = kDenseQ4Scalar.rows, G = kDenseQ4Scalar.group, kHalf = R * G / 2;

  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * R;
    for (std::int64_t m = 0; m < task.m; ++m) {
      const std::int8_t* xm = x + m * task.ldx;
      const std::uint8_t* index = w.index + first * w.k_padded / 2;
      std::int32_t sum[R] = {};
      for (std::int64_t k = 0; k < w.k_padded; k += G, index += kHalf)
        for (std::int64_t r = 0; r < R; ++r) {
          const std::int64_t group = (unit * w.groups + k / w.group) * R + r;
          std::int32_t part = 0, sum_x = 0;
          for (std::int64_t i = r * G; i < (r + 1) * G; ++i) {
            const int level = w.levels[unit * 16 + (i < kHalf ? index[i] & 15 : index[i - kHalf] >> 4)];
            part += static_cast<std::int32_t>(xm[k + i % G]) * (level - w.same_zero);
            sum_x += xm[k + i % G];
          }
          sum[r] += w.multiplier != nullptr ? part * w.multiplier[group] : part;
          if (w.offset != nullptr) sum[r] += sum_x * w.offset[group];
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
