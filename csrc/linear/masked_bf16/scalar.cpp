// The plain kernel: value after value, where the mask says.
#include "base/bf16.h"
#include "linear/dense_f32/layout.h"
#include "linear/linear.h"
#include "linear/masked_bf16/layout.h"

namespace aerogel {

void run_masked_bf16_scalar(const LinearTask& task) {
  constexpr int kPanel = dense_f32::kScalar.panel;
  static_assert(kPanel == 8, "one byte of mask a column");
  const auto& view = *static_cast<const masked_bf16::View*>(task.weight);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * kPanel;
    const std::int64_t rows = view.n - first < kPanel ? view.n - first : kPanel;
    for (std::int64_t t = 0; t < task.m; ++t) {
      const float* x = static_cast<const float*>(task.x) + t * task.ldx;
      const std::uint8_t* mask = view.masks + unit * view.k;
      const std::uint16_t* value = view.values + view.begin[unit * view.sections];
      float sum[kPanel] = {};
      for (std::int64_t k = 0; k < view.k; ++k)
        for (int lane = 0; lane < kPanel; ++lane) sum[lane] += x[k] * ((mask[k] >> lane) & 1 ? bf16_to_float(*value++) : 0.0f);
      float* y = task.y + t * task.ldy + first;
      for (std::int64_t lane = 0; lane < rows; ++lane)
        y[lane] = task.bias == nullptr ? sum[lane] : sum[lane] + task.bias[first + lane];
    }
  }
}

}  // namespace aerogel
