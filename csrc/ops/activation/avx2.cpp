#include "ops/math_avx2.h"

#include "ops/activation/body.h"
#include "ops/activation/silu.h"

namespace aerogel {

void gelu_erf_avx2(const ActivationTask& task) { activate<Gelu<Erf>>(task); }
void gelu_tanh_avx2(const ActivationTask& task) { activate<Gelu<Tanh3>>(task); }
void relu_avx2(const ActivationTask& task) { activate<Relu>(task); }
void tanh_act_avx2(const ActivationTask& task) { activate<Tanh>(task); }
void silu_avx2(const ActivationTask& task) { activate<Silu>(task); }
void gelu_erf_gate_avx2(const ActivationTask& task) { activate<Gelu<Erf>, true>(task); }
void gelu_tanh_gate_avx2(const ActivationTask& task) { activate<Gelu<Tanh3>, true>(task); }
void relu_gate_avx2(const ActivationTask& task) { activate<Relu, true>(task); }
void silu_gate_avx2(const ActivationTask& task) { activate<Silu, true>(task); }

}  // namespace aerogel
