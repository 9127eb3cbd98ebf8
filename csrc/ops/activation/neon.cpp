#include "ops/math_neon.h"

#include "ops/activation/body.h"

namespace aerogel {
namespace {

struct Power {
  static constexpr float kBias = 12582912.0f + 127.0f;
  static Vector times(Vector v, Vector shifted) { return mul(v, power_of(shifted)); }
  static Vector where_under(Vector limit, Vector a, Vector v) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcltq_f32(a, limit)));
  }
};

}  // namespace

void gelu_erf_neon(const ActivationTask& task) { activate<GeluErfInPairs<Power>>(task); }
void gelu_tanh_neon(const ActivationTask& task) { activate<GeluTanh>(task); }
void relu_neon(const ActivationTask& task) { activate<Relu>(task); }
void tanh_act_neon(const ActivationTask& task) { activate<Tanh>(task); }
void silu_neon(const ActivationTask& task) { activate<Silu>(task); }
void gelu_erf_gate_neon(const ActivationTask& task) { activate<GeluErfInPairs<Power>, true>(task); }
void gelu_tanh_gate_neon(const ActivationTask& task) { activate<GeluTanh, true>(task); }
void relu_gate_neon(const ActivationTask& task) { activate<Relu, true>(task); }
void silu_gate_neon(const ActivationTask& task) { activate<Silu, true>(task); }

}  // namespace aerogel
