#include "runtime/ops/norm.h"

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

Norm::Norm(const char* kind, Kernel kernel, const std::string& name, int x, const Value& in, Floats gamma, Floats beta, float eps)
    : Op(kind, name, {x}, in), kernel_(kernel), gamma_(std::move(gamma)), beta_(std::move(beta)), eps_(eps) {
  expect_length(gamma_, in.width, name + ".weight");
  if (beta_ != nullptr) expect_length(beta_, in.width, name + ".bias");
}

void Norm::run(const Work& work) const {
  const auto kernel = work.ops.*kernel_;
  const std::int64_t width = result().width;
  const float* const x = work.x();
  const float* const residual = work.step.x.size() == 2 ? work.x(1) : nullptr;
  float* const sum = work.sum();
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int thread) {
    NormTask task{};
    task.x = x + begin * width;
    task.residual = residual == nullptr ? nullptr : residual + begin * width;
    task.ldx = width;
    task.rows = count;
    task.width = width;
    task.gamma = gamma_->data();
    task.beta = beta_ == nullptr ? nullptr : beta_->data();
    task.eps = eps_;
    task.sum = sum == nullptr ? nullptr : sum + begin * width;
    work.write(task, begin, thread);
    kernel(task);
  });
}

}  // namespace aerogel
