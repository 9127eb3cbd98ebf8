#include "ops/math_avx512vnni.h"

#include "ops/activation/body.h"

namespace aerogel {
namespace {

// gelu_erf is bound by 19 multiplications, multiply-adds and maxima on two ports; evaluating P in pairs costs one of them and halves
// its latency, which is worth more, as few blocks fit into the scheduler at once. The power of two goes onto the exponent by an
// integer addition, as Q cannot underflow.
struct Power {
  static constexpr float kBias = 12582912.0f;
  static Vector times(Vector v, Vector shifted) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_castps_si512(power_of(shifted))));
  }
  // Compared as integers: a NaN is above all.
  static Vector where_under(Vector limit, Vector a, Vector v) {
    return _mm512_maskz_mov_ps(_mm512_cmpgt_epi32_mask(_mm512_castps_si512(limit), _mm512_castps_si512(a)), v);
  }
};

}  // namespace

void gelu_erf_avx512vnni(const ActivationTask& task) { activate<GeluErfInPairs<Power>>(task); }
void gelu_tanh_avx512vnni(const ActivationTask& task) { activate<GeluTanh>(task); }
void relu_avx512vnni(const ActivationTask& task) { activate<Relu>(task); }
void tanh_act_avx512vnni(const ActivationTask& task) { activate<Tanh>(task); }
void silu_avx512vnni(const ActivationTask& task) { activate<Silu>(task); }
void gelu_erf_gate_avx512vnni(const ActivationTask& task) { activate<GeluErfInPairs<Power>, true>(task); }
void gelu_tanh_gate_avx512vnni(const ActivationTask& task) { activate<GeluTanh, true>(task); }
void relu_gate_avx512vnni(const ActivationTask& task) { activate<Relu, true>(task); }
void silu_gate_avx512vnni(const ActivationTask& task) { activate<Silu, true>(task); }

}  // namespace aerogel
