// The reference: the panel of layout.h, read in its order.
#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_q8_scalar(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  constexpr std::int64_t R = kDenseQ8Scalar.rows, G = kDenseQ8Scalar.group;

  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * R;
    for (std::int64_t m = 0; m < task.m; ++m) {
      const std::int8_t* xm = x + m * task.ldx;
      const std::int8_t* codes = w.codes + first * w.k_padded;
      std::int32_t sum[R] = {};
      for (std::int64_t k = 0; k < w.k_padded; k += G, codes += R * G)
        for (std::int64_t r = 0; r < R; ++r) {
          std::int32_t part = 0;
          for (std::int64_t i = 0; i < G; ++i) part += static_cast<std::int32_t>(xm[k + i]) * codes[r * G + i];
          sum[r] += part;
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
