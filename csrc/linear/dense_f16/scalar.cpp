// The plain kernel: that of dense_f32, each weight widened as it is read.
#include "base/f16.h"
#include "linear/dense_f16/layout.h"
#include "linear/dense_f32/layout.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_f16_scalar(const LinearTask& task) {
  constexpr int kPanel = dense_f32::kScalar.panel;
  const auto& view = *static_cast<const dense_f16::View*>(task.weight);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * kPanel;
    const std::int64_t rows = view.n - first < kPanel ? view.n - first : kPanel;
    for (std::int64_t t = 0; t < task.m; ++t) {
      const float* x = static_cast<const float*>(task.x) + t * task.ldx;
      const std::uint16_t* w = view.panels + first * view.k;
      float sum[kPanel] = {};
      for (std::int64_t k = 0; k < view.k; ++k, w += kPanel)
        for (int lane = 0; lane < kPanel; ++lane) sum[lane] += x[k] * f16_to_float(w[lane]);
      float* y = task.y + t * task.ldy + first;
      for (std::int64_t lane = 0; lane < rows; ++lane)
        y[lane] = task.bias == nullptr ? sum[lane] : sum[lane] + task.bias[first + lane];
    }
  }
}

}  // namespace aerogel
