// One pass: kBlock vectors at a time, so that independent polynomials hide the latency of a multiply-add; the
// largest magnitude is taken on the way, and the codes, where they are wanted, while the row is in L1. Over the vocabulary of an
// ops/math_<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"
#include "ops/row.h"

namespace aerogel {
namespace {

// gelu(x) = max(x, 0) - |x| Q(|x|), Q(a) = erfc(a / sqrt 2) / 2 = 2^P(a). The logarithm of Q is so smooth that a
// polynomial of degree 10 gives Q to 5e-8 (relative; 1e-6 where x = -5), so nothing cancels for x < 0. These are P's
// coefficients, the highest power first.
constexpr float kGelu[11] = {-2.26961241e-08f, 6.94153925e-07f, -9.12280484e-06f, 6.52580493e-05f, -0.000239593457f, -8.61131703e-05f,
                             0.00705568213f,   -0.0525172502f,  -0.459194899f,    -1.15110755f,    -0.99999994f};

// P in pairs: half the latency of Horner's rule for one multiplication more. From a = 7 on a Q(a) < 1e-11 counts as 0.
// Power says how a vector is multiplied by the power of two that is left in a sum with Power::kBias.
template <class Power>
struct GeluErfInPairs {
  static constexpr int kBlock = 4;
  static inline void apply(Vector (&x)[kBlock]) {
    Vector a[kBlock], square[kBlock], p[kBlock], shifted[kBlock];
    for (int u = 0; u < kBlock; ++u) {
      a[u] = magnitude(x[u]);
      square[u] = mul(a[u], a[u]);
      p[u] = splat(kGelu[0]);
    }
#pragma GCC unroll 8
    for (int i = 1; i < 11; i += 2)
      for (int u = 0; u < kBlock; ++u) p[u] = fma(p[u], square[u], fma(a[u], splat(kGelu[i]), splat(kGelu[i + 1])));
    for (int u = 0; u < kBlock; ++u) {
      shifted[u] = add(p[u], splat(Power::kBias));
      p[u] = sub(p[u], sub(shifted[u], splat(Power::kBias)));
    }
    for (int u = 0; u < kBlock; ++u)
      p[u] = polynomial5(p[u], 1.00000012f, 0.693146944f, 0.240221202f, 0.0555071309f, 0.00967554096f, 0.00132764713f);
    for (int u = 0; u < kBlock; ++u)  // max keeps a NaN
      x[u] = sub(max(splat(0.0f), x[u]), Power::where_under(splat(7.0f), a[u], mul(a[u], Power::times(p[u], shifted[u]))));
  }
};

// x / (1 + 2^t) with t = -2 u log2 e: nothing cancels. Below -10.067 t is 128.2, the power infinity, the result -0.
struct GeluTanh {
  static constexpr int kBlock = 4;
  static inline void apply(Vector (&x)[kBlock]) {
    for (Vector& each : x) {
      const Vector v = max(splat(-10.067f), each);
      const Vector polynomial = fma(mul(v, v), splat(-0.102943239f), splat(-2.30220820f));
      const Vector t = max(splat(-127.0f), mul(v, polynomial));
      each = div(v, add(splat(1.0f), exp2_by_polynomial(t)));
    }
  }
};

struct Relu {
  static constexpr int kBlock = 4;
  static inline void apply(Vector (&x)[kBlock]) {
    for (Vector& each : x) each = max(splat(0.0f), each);
  }
};

struct Tanh {
  static constexpr int kBlock = 4;
  static inline void apply(Vector (&x)[kBlock]) {
    for (Vector& each : x) each = tanh(each);
  }
};

// x / (1 + e^-x). Below -88.86 the power is infinity and the result -0.
struct Silu {
  static constexpr int kBlock = 4;
  static inline void apply(Vector (&x)[kBlock]) {
    for (Vector& each : x) {
      const Vector v = max(splat(-88.86f), each);
      each = div(v, add(splat(1.0f), exp(max(splat(-88.03f), sub(splat(0.0f), v)))));
    }
  }
};

template <class Function, bool gated = false>
void activate(const ActivationTask& task) {
  constexpr int kBlock = Function::kBlock;
  constexpr std::int64_t kStep = kBlock * kLanes;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    const float* gate = x + task.width;
    float* y = task.y + t * task.ldy;
    Bits largest[2] = {};
    // Compiled twice: with all of a block, and with what is left, the rest as 0, which every function maps to 0.
    const auto block = [&](std::int64_t k, auto n) {
      Vector v[kBlock];
      for (int u = 0; u < kBlock; ++u) v[u] = load_first(x + k + u * kLanes, n - u * kLanes);
      Function::apply(v);
      for (int u = 0; u < kBlock; ++u) {
        if (gated) v[u] = mul(v[u], load_first(gate + k + u * kLanes, n - u * kLanes));
        store_first(y + k + u * kLanes, v[u], n - u * kLanes);
        largest[u & 1] = max(largest[u & 1], magnitude_bits(v[u]));
      }
    };
    std::int64_t k = 0;
    for (; k + kStep <= task.width; k += kStep) block(k, All{});
    if (k < task.width) block(k, task.width - k);
    if (task.q != nullptr)
      quantize_row(y, task.width, max_lanes(max(largest[0], largest[1])), task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace
}  // namespace aerogel
