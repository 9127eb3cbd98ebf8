// The plain kernel: one dot product of a sparse row and a token at a time.
#include "linear/csr_f32/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

template <class Column>
void multiply(const LinearTask& task, const csr_f32::View& view, const Column* columns) {
  const std::int64_t last = task.unit_end * csr_f32::kUnit < view.n ? task.unit_end * csr_f32::kUnit : view.n;
  for (std::int64_t row = task.unit_begin * csr_f32::kUnit; row < last; ++row)
    for (std::int64_t t = 0; t < task.m; ++t) {
      const float* x = static_cast<const float*>(task.x) + t * task.ldx;
      float sum = task.bias == nullptr ? 0.0f : task.bias[row];
      for (std::int64_t i = view.row_begin[row]; i < view.row_begin[row + 1] && columns[i] < view.k; ++i)
        sum += view.values[i] * x[columns[i]];
      task.y[t * task.ldy + row] = sum;
    }
}

}  // namespace

void run_csr_f32_scalar(const LinearTask& task) {
  const auto& view = *static_cast<const csr_f32::View*>(task.weight);
  view.columns16 != nullptr ? multiply(task, view, view.columns16) : multiply(task, view, view.columns32);
}

}  // namespace aerogel
