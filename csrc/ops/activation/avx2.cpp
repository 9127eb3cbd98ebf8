// One pass: kBlock vectors at a time, so that independent polynomials hide the latency of a multiply-add; the
// largest magnitude is taken on the way, and the codes, where they are wanted, while the row is in L1.
#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

// gelu(x) = max(x, 0) - |x| Q(|x|), Q(a) = erfc(a / sqrt 2) / 2 = 2^P(a). The logarithm of Q is so smooth that a
// polynomial of degree 10 gives Q to 5e-8 (relative; 1e-6 where x = -5), so nothing cancels for x < 0. From a = 7 on
// a Q(a) is under 1e-11; at 11.374 P is -127, whose power is 0. Bound by 15 multiplications and multiply-adds on two ports:
// 2.3 ns a vector on Zen 3. Horner's rule over eight vectors at once: as many independent chains as hide its latency, one
// multiplication less than pairs. Measured on Zen 3: 3.5 ns a vector (4.2 with pairs and a
// longer polynomial for the power).
struct GeluErf {
  static constexpr int kBlock = 8;
  static inline void apply(__m256* x) {
    static constexpr float coefficient[10] = {6.94153925e-07f, -9.12280484e-06f, 6.52580493e-05f, -0.000239593457f, -8.61131703e-05f,
                                              0.00705568213f, -0.0525172502f, -0.459194899f, -1.15110755f, -0.99999994f};
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 a[kBlock], p[kBlock];
#pragma GCC unroll 8
    for (int u = 0; u < kBlock; ++u) {
      a[u] = _mm256_min_ps(_mm256_set1_ps(11.3739106f), _mm256_andnot_ps(sign, x[u]));  // min keeps a NaN
      p[u] = _mm256_fmadd_ps(a[u], _mm256_set1_ps(-2.26961241e-08f), _mm256_set1_ps(coefficient[0]));
    }
#pragma GCC unroll 16
    for (int i = 1; i < 10; ++i)
#pragma GCC unroll 8
      for (int u = 0; u < kBlock; ++u) p[u] = _mm256_fmadd_ps(p[u], a[u], _mm256_set1_ps(coefficient[i]));
    // 2^P, four at a time, step by step.
#pragma GCC unroll 2
    for (int half = 0; half < kBlock; half += 4) {
      __m256 power[4], q[4];
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) q[u] = exp2_reduce(p[half + u], &power[u]);
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) q[u] = exp2_fraction(q[u], power[u]);
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u)  // max gives its second operand when one is a NaN
        x[half + u] = _mm256_fnmadd_ps(a[half + u], q[u], _mm256_max_ps(_mm256_setzero_ps(), x[half + u]));
    }
  }
};

// x / (1 + 2^t) with t = -2 u log2 e: nothing cancels. Below -10.067 t is 128.2, the power infinity, the result -0.
struct GeluTanh {
  static constexpr int kBlock = 4;
  static inline void apply(__m256* x) {
    for (int u = 0; u < kBlock; ++u) {
      const __m256 v = _mm256_max_ps(_mm256_set1_ps(-10.067f), x[u]);
      const __m256 polynomial = _mm256_fmadd_ps(_mm256_mul_ps(v, v), _mm256_set1_ps(-0.102943239f), _mm256_set1_ps(-2.30220820f));
      const __m256 t = _mm256_max_ps(_mm256_set1_ps(-127.0f), _mm256_mul_ps(v, polynomial));
      x[u] = _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1.0f), exp2_256(t)));
    }
  }
};

struct Relu {
  static constexpr int kBlock = 4;
  static inline void apply(__m256* x) {
    for (int u = 0; u < kBlock; ++u) x[u] = _mm256_max_ps(_mm256_setzero_ps(), x[u]);
  }
};

// |tanh x| = m / (m + 2) with m = e^(2|x|) - 1 = 2^k (e^f - 1) + (2^k - 1), which keeps its precision near 0.
struct Tanh {
  static constexpr int kBlock = 4;
  static inline void apply(__m256* x) {
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    for (int u = 0; u < kBlock; ++u) {
      const __m256 a = _mm256_min_ps(_mm256_set1_ps(10.0f), _mm256_andnot_ps(sign, x[u]));
      __m256 power;
      const __m256 f = exp_reduce(_mm256_add_ps(a, a), &power);
      const __m256 m = _mm256_fmadd_ps(power, _mm256_mul_ps(expm1_over(f), f), _mm256_sub_ps(power, one));
      const __m256 y = _mm256_div_ps(m, _mm256_add_ps(m, _mm256_set1_ps(2.0f)));
      x[u] = _mm256_or_ps(y, _mm256_and_ps(sign, x[u]));
    }
  }
};

// x / (1 + e^-x). Below -88.86 the power is infinity and the result -0.
struct Silu {
  static constexpr int kBlock = 4;
  static inline void apply(__m256* x) {
    for (int u = 0; u < kBlock; ++u) {
      const __m256 v = _mm256_max_ps(_mm256_set1_ps(-88.86f), x[u]);
      const __m256 negated = _mm256_max_ps(_mm256_set1_ps(-88.03f), _mm256_sub_ps(_mm256_setzero_ps(), v));
      x[u] = _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_256(negated)));
    }
  }
};

template <class Function, bool gated = false>
void run(const ActivationTask& task) {
  constexpr int kBlock = Function::kBlock;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    const float* gate = x + task.width;
    float* y = task.y + t * task.ldy;
    __m256i largest[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    std::int64_t k = 0;
    for (; k + 8 * kBlock <= task.width; k += 8 * kBlock) {
      __m256 v[kBlock];
      for (int u = 0; u < kBlock; ++u) v[u] = _mm256_loadu_ps(x + k + 8 * u);
      Function::apply(v);
      for (int u = 0; u < kBlock; ++u) {
        if (gated) v[u] = _mm256_mul_ps(v[u], _mm256_loadu_ps(gate + k + 8 * u));
        _mm256_storeu_ps(y + k + 8 * u, v[u]);
        largest[u & 1] = _mm256_max_epi32(largest[u & 1], magnitude_bits(v[u]));
      }
    }
    if (k < task.width) {
      __m256 v[kBlock];
      for (int u = 0; u < kBlock; ++u) v[u] = load_first(x + k + 8 * u, task.width - k - 8 * u);
      Function::apply(v);  // every function maps 0 to 0
      for (int u = 0; u < kBlock; ++u) {
        const std::int64_t n = task.width - k - 8 * u;
        if (gated) v[u] = _mm256_mul_ps(v[u], load_first(gate + k + 8 * u, n));
        store_first(y + k + 8 * u, v[u], n);
        largest[u & 1] = _mm256_max_epi32(largest[u & 1], magnitude_bits(v[u]));
      }
    }
    if (task.q != nullptr)
      quantize_row_avx2(y, task.width, max_lanes_i32(_mm256_max_epi32(largest[0], largest[1])), task.q + t * task.ldq,
                        task.ldq, task.q_scale + t);
  }
}

}  // namespace

void gelu_erf_avx2(const ActivationTask& task) { run<GeluErf>(task); }
void gelu_tanh_avx2(const ActivationTask& task) { run<GeluTanh>(task); }
void relu_avx2(const ActivationTask& task) { run<Relu>(task); }
void tanh_act_avx2(const ActivationTask& task) { run<Tanh>(task); }
void silu_avx2(const ActivationTask& task) { run<Silu>(task); }
void silu_gate_avx2(const ActivationTask& task) { run<Silu, true>(task); }

}  // namespace aerogel
