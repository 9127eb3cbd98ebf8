// The reference. In double inside, so that a result is the correctly rounded one nearly always.
#include <cmath>

#include "ops/row_scalar.h"

namespace aerogel {
namespace {

// x / (1 + exp(-z)), which is 0 and not NaN at x = z = -inf.
double logistic(double x, double z) { return z < -700.0 ? -0.0 : x / (1.0 + std::exp(-z)); }

// erfc, not 1 + erf: for x < 0 that difference would cancel.
double gelu_erf(double x) { return x < -40.0 ? -0.0 : 0.5 * x * std::erfc(-x * 0.70710678118654752440); }
// x/2 (1 + tanh u) = x / (1 + exp(-2u)), which does not cancel either.
double gelu_tanh(double x) { return logistic(x, 1.59576912160573071176 * (x + 0.044715 * x * x * x)); }
double relu(double x) { return x < 0.0 ? 0.0 : x; }
double hyperbolic(double x) { return std::tanh(x); }
double silu(double x) { return logistic(x, x); }

template <double (*f)(double), bool gated = false>
void run(const ActivationTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    float* y = task.y + t * task.ldy;
    for (std::int64_t k = 0; k < task.width; ++k) {
      const double value = f(static_cast<double>(x[k]));
      y[k] = static_cast<float>(gated ? value * static_cast<double>(x[task.width + k]) : value);
    }
    if (task.q != nullptr) quantize_row_scalar(y, task.width, task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace

void gelu_erf_scalar(const ActivationTask& task) { run<gelu_erf>(task); }
void gelu_tanh_scalar(const ActivationTask& task) { run<gelu_tanh>(task); }
void relu_scalar(const ActivationTask& task) { run<relu>(task); }
void tanh_act_scalar(const ActivationTask& task) { run<hyperbolic>(task); }
void silu_scalar(const ActivationTask& task) { run<silu>(task); }
void gelu_erf_gate_scalar(const ActivationTask& task) { run<gelu_erf, true>(task); }
void gelu_tanh_gate_scalar(const ActivationTask& task) { run<gelu_tanh, true>(task); }
void relu_gate_scalar(const ActivationTask& task) { run<relu, true>(task); }
void silu_gate_scalar(const ActivationTask& task) { run<silu, true>(task); }

}  // namespace aerogel
