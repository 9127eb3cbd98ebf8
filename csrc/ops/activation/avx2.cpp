// One pass: 32 elements at a time, so that four independent polynomials hide the latency of a multiply-add; the
// largest magnitude is taken on the way, and the codes, where they are wanted, while the row is in L1.
#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr int kBlock = 4;  // vectors

// gelu(x) = max(x, 0) - |x| Q(|x|), Q(a) = erfc(a / sqrt 2) / 2 = 2^P(a). The logarithm of Q is so smooth that a
// polynomial of degree 10 gives Q to 5e-8 (relative; 1e-6 where x = -5), so nothing cancels for x < 0. From a = 7 on
// a Q(a) < 1e-11 counts as 0. Bound by 19 multiplications, multiply-adds and maxima on two ports; evaluating P in pairs
// costs one of them and halves its latency, which is worth more, as few blocks fit into the scheduler at once.
// Measured on Zen 3: 4.2 ns a vector, where 19 operations would take 2.9; the integer steps probably compete for the same ports.
struct GeluErf {
  static inline void apply(__m256* x) {
    static constexpr float pair[5][2] = {{-9.12280484e-06f, 6.94153925e-07f}, {-0.000239593457f, 6.52580493e-05f},
                                         {0.00705568213f, -8.61131703e-05f}, {-0.459194899f, -0.0525172502f},
                                         {-0.99999994f, -1.15110755f}};
    const __m256 magnitude_mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 a[kBlock], square[kBlock], p[kBlock], power[kBlock];
    for (int u = 0; u < kBlock; ++u) {
      a[u] = _mm256_and_ps(x[u], magnitude_mask);
      square[u] = _mm256_mul_ps(a[u], a[u]);
      p[u] = _mm256_set1_ps(-2.26961241e-08f);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 5; ++i) {
      const __m256 c0 = _mm256_set1_ps(pair[i][0]), c1 = _mm256_set1_ps(pair[i][1]);
      for (int u = 0; u < kBlock; ++u) p[u] = _mm256_fmadd_ps(p[u], square[u], _mm256_fmadd_ps(a[u], c1, c0));
    }
    // 2^P as in exp2_256; the power of two goes onto the exponent by an integer addition, as Q cannot underflow.
    const __m256 bias = _mm256_set1_ps(12582912.0f);
    for (int u = 0; u < kBlock; ++u) {
      const __m256 shifted = _mm256_add_ps(p[u], bias);
      p[u] = _mm256_sub_ps(p[u], _mm256_sub_ps(shifted, bias));
      power[u] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
    }
    for (int u = 0; u < kBlock; ++u)
      p[u] = polynomial5(p[u], 1.00000012f, 0.693146944f, 0.240221202f, 0.0555071309f, 0.00967554096f, 0.00132764713f);
    for (int u = 0; u < kBlock; ++u) {
      const __m256i q = _mm256_add_epi32(_mm256_castps_si256(p[u]), _mm256_castps_si256(power[u]));
      const __m256i near_zero = _mm256_cmpgt_epi32(_mm256_castps_si256(_mm256_set1_ps(7.0f)), _mm256_castps_si256(a[u]));
      const __m256 tail = _mm256_and_ps(_mm256_mul_ps(a[u], _mm256_castsi256_ps(q)), _mm256_castsi256_ps(near_zero));
      // max gives its second operand when one is a NaN
      x[u] = _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), x[u]), tail);
    }
  }
};

// x / (1 + 2^t) with t = -2 u log2 e: nothing cancels. Below -10.067 t is 128.2, the power infinity, the result -0.
struct GeluTanh {
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
  static inline void apply(__m256* x) {
    for (int u = 0; u < kBlock; ++u) x[u] = _mm256_max_ps(_mm256_setzero_ps(), x[u]);
  }
};

// |tanh x| = m / (m + 2) with m = e^(2|x|) - 1 = 2^k (e^f - 1) + (2^k - 1), which keeps its precision near 0.
struct Tanh {
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
