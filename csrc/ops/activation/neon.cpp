#include "ops/math_neon.h"

#include "ops/activation/body.h"
#include "ops/activation/silu.h"

namespace aerogel {

void gelu_erf_neon(const ActivationTask& task) { activate<Gelu<Erf>>(task); }
void gelu_tanh_neon(const ActivationTask& task) { activate<Gelu<Tanh3>>(task); }
void relu_neon(const ActivationTask& task) { activate<Relu>(task); }
void tanh_act_neon(const ActivationTask& task) { activate<Tanh>(task); }
void silu_neon(const ActivationTask& task) { activate<Silu>(task); }
void gelu_erf_gate_neon(const ActivationTask& task) { activate<Gelu<Erf>, true>(task); }
void gelu_tanh_gate_neon(const ActivationTask& task) { activate<Gelu<Tanh3>, true>(task); }
void relu_gate_neon(const ActivationTask& task) { activate<Relu, true>(task); }
void silu_gate_neon(const ActivationTask& task) { activate<Silu, true>(task); }

}  // namespace aerogel
