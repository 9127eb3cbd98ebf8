// The reference: group by group, in the order of layout.h.
#include "linear/grouped_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {

void run_grouped_q8_scalar(const LinearTask& task) {
  const GroupedQ8View& w = *static_cast<const GroupedQ8View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  constexpr std::int64_t R = kDenseQ8Scalar.rows, G = kDenseQ8Scalar.group;

  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * R;
    for (std::int64_t m = 0; m < task.m; ++m) {
      const std::int8_t* xm = x + m * task.ldx;
      for (std::int64_t r = 0; r < R && first + r < w.n; ++r) {
        float total = 0.0f;
        for (std::int64_t g = 0; g < w.groups; ++g) {
          const std::int64_t end = (g + 1) * w.group < w.k ? (g + 1) * w.group : w.k;
          std::int32_t sum = 0;
          for (std::int64_t k = g * w.group; k < end; ++k)
            sum += static_cast<std::int32_t>(xm[k]) * w.codes[first * w.k_padded + (k / G * R + r) * G + k % G];
          const float part = w.scale[(unit * w.groups + g) * R + r] * static_cast<float>(sum);
          total = total + part;
        }
        float y = total * task.x_scale[m];
        if (task.bias != nullptr) y = y + task.bias[first + r];
        task.y[m * task.ldy + first + r] = y;
      }
    }
  }
}

}  // namespace aerogel
