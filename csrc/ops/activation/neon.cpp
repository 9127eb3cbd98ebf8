// One pass: 16 elements at a time, so that four independent polynomials hide the latency of a multiply-add; the
// largest magnitude is taken on the way, and the codes, where they are wanted, while the row is in L1.
#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr int kBlock = 4;  // vectors

// gelu(x) = max(x, 0) - |x| Q(|x|), Q(a) = erfc(a / sqrt 2) / 2 = 2^P(a). The logarithm of Q is so smooth that a
// polynomial of degree 10 gives Q to 5e-8 (relative; 1e-6 where x = -5), so nothing cancels for x < 0. From a = 7 on
// a Q(a) < 1e-11 counts as 0.
struct GeluErf {
  static inline void apply(float32x4_t* x) {
    static constexpr float pair[5][2] = {{-9.12280484e-06f, 6.94153925e-07f}, {-0.000239593457f, 6.52580493e-05f},
                                         {0.00705568213f, -8.61131703e-05f}, {-0.459194899f, -0.0525172502f},
                                         {-0.99999994f, -1.15110755f}};
    float32x4_t a[kBlock], square[kBlock], p[kBlock];
    for (int u = 0; u < kBlock; ++u) {
      a[u] = vabsq_f32(x[u]);
      square[u] = vmulq_f32(a[u], a[u]);
      p[u] = vdupq_n_f32(-2.26961241e-08f);
    }
    for (int i = 0; i < 5; ++i) {
      const float32x4_t c0 = vdupq_n_f32(pair[i][0]), c1 = vdupq_n_f32(pair[i][1]);
      for (int u = 0; u < kBlock; ++u) p[u] = fmadd(p[u], square[u], fmadd(a[u], c1, c0));
    }
    const float32x4_t bias = vdupq_n_f32(12582912.0f + 127.0f);
    for (int u = 0; u < kBlock; ++u) {
      const float32x4_t shifted = vaddq_f32(p[u], bias);
      const float32x4_t f = vsubq_f32(p[u], vsubq_f32(shifted, bias));
      const float32x4_t q = vmulq_f32(
          polynomial5(f, 1.00000012f, 0.693146944f, 0.240221202f, 0.0555071309f, 0.00967554096f, 0.00132764713f), power_of(shifted));
      const float32x4_t tail = keep(vmulq_f32(a[u], q), vcltq_f32(a[u], vdupq_n_f32(7.0f)));
      x[u] = vsubq_f32(vmaxq_f32(vdupq_n_f32(0.0f), x[u]), tail);  // vmaxq keeps a NaN
    }
  }
};

// x / (1 + 2^t) with t = -2 u log2 e: nothing cancels. Below -10.067 t is 128.2, the power infinity, the result -0.
struct GeluTanh {
  static inline void apply(float32x4_t* x) {
    for (int u = 0; u < kBlock; ++u) {
      const float32x4_t v = vmaxq_f32(vdupq_n_f32(-10.067f), x[u]);
      const float32x4_t polynomial = fmadd(vmulq_f32(v, v), vdupq_n_f32(-0.102943239f), vdupq_n_f32(-2.30220820f));
      const float32x4_t t = vmaxq_f32(vdupq_n_f32(-127.0f), vmulq_f32(v, polynomial));
      x[u] = vdivq_f32(v, vaddq_f32(vdupq_n_f32(1.0f), exp2_128(t)));
    }
  }
};

struct Relu {
  static inline void apply(float32x4_t* x) {
    for (int u = 0; u < kBlock; ++u) x[u] = vmaxq_f32(vdupq_n_f32(0.0f), x[u]);
  }
};

// |tanh x| = m / (m + 2) with m = e^(2|x|) - 1 = 2^k (e^f - 1) + (2^k - 1), which keeps its precision near 0.
struct Tanh {
  static inline void apply(float32x4_t* x) {
    for (int u = 0; u < kBlock; ++u) {
      const float32x4_t a = vminq_f32(vdupq_n_f32(10.0f), vabsq_f32(x[u]));
      float32x4_t power;
      const float32x4_t f = exp_reduce(vaddq_f32(a, a), &power);
      const float32x4_t m = fmadd(power, vmulq_f32(expm1_over(f), f), vsubq_f32(power, vdupq_n_f32(1.0f)));
      x[u] = vbslq_f32(vdupq_n_u32(0x80000000u), x[u], vdivq_f32(m, vaddq_f32(m, vdupq_n_f32(2.0f))));
    }
  }
};

// x / (1 + e^-x). Below -88.86 the power is infinity and the result -0.
struct Silu {
  static inline void apply(float32x4_t* x) {
    for (int u = 0; u < kBlock; ++u) {
      const float32x4_t v = vmaxq_f32(vdupq_n_f32(-88.86f), x[u]);
      const float32x4_t negated = vmaxq_f32(vdupq_n_f32(-88.03f), vsubq_f32(vdupq_n_f32(0.0f), v));
      x[u] = vdivq_f32(v, vaddq_f32(vdupq_n_f32(1.0f), exp_128(negated)));
    }
  }
};

template <class Function, bool gated = false>
void run(const ActivationTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    const float* gate = x + task.width;
    float* y = task.y + t * task.ldy;
    uint32x4_t largest[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
    std::int64_t k = 0;
    for (; k + 4 * kBlock <= task.width; k += 4 * kBlock) {
      float32x4_t v[kBlock];
      for (int u = 0; u < kBlock; ++u) v[u] = vld1q_f32(x + k + 4 * u);
      Function::apply(v);
      for (int u = 0; u < kBlock; ++u) {
        if (gated) v[u] = vmulq_f32(v[u], vld1q_f32(gate + k + 4 * u));
        vst1q_f32(y + k + 4 * u, v[u]);
        largest[u & 1] = vmaxq_u32(largest[u & 1], magnitude_bits(v[u]));
      }
    }
    if (k < task.width) {
      float32x4_t v[kBlock];
      for (int u = 0; u < kBlock; ++u) v[u] = load_first(x + k + 4 * u, task.width - k - 4 * u);
      Function::apply(v);  // every function maps 0 to 0
      for (int u = 0; u < kBlock; ++u) {
        const std::int64_t n = task.width - k - 4 * u;
        if (gated) v[u] = vmulq_f32(v[u], load_first(gate + k + 4 * u, n));
        store_first(y + k + 4 * u, v[u], n);
        largest[u & 1] = vmaxq_u32(largest[u & 1], magnitude_bits(v[u]));
      }
    }
    if (task.q != nullptr)
      quantize_row_neon(y, task.width, vmaxvq_u32(vmaxq_u32(largest[0], largest[1])), task.q + t * task.ldq,
                        task.ldq, task.q_scale + t);
  }
}

}  // namespace

void gelu_erf_neon(const ActivationTask& task) { run<GeluErf>(task); }
void gelu_tanh_neon(const ActivationTask& task) { run<GeluTanh>(task); }
void relu_neon(const ActivationTask& task) { run<Relu>(task); }
void tanh_act_neon(const ActivationTask& task) { run<Tanh>(task); }
void silu_neon(const ActivationTask& task) { run<Silu>(task); }
void silu_gate_neon(const ActivationTask& task) { run<Silu, true>(task); }

}  // namespace aerogel
