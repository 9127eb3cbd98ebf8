// One pass: kBlock vectors at a time, so that independent polynomials hide the latency of a multiply-add; the
// largest magnitude is taken on the way, and the codes, where they are wanted, while the row is in L1. Over the vocabulary of an
// ops/math_<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"
#include "ops/row.h"

namespace aerogel {
namespace {

// gelu(x) = max(x, 0) - a Q(a) with a = |x|, where Q falls from 1/2 to 0; so nothing cancels for x < 0. Its eighth root is so flat that
// a polynomial of degree 8 or 9 gives it, and three squarings give Q: neither an exponential, nor a division, nor a table, and the
// same bits on every instruction set. From the limit on, where the polynomial is 0, Q is. These are the polynomials' coefficients,
// the highest power first.
struct Erf {  // Q(a) = erfc(a / sqrt 2) / 2
  static constexpr float kLimit = 8.3499918f;
  static constexpr float kRoot[] = {-2.93132445e-07f, 7.43688543e-06f,  -5.99875457e-05f, 3.33923417e-05f, 0.00150608423f,
                                    -0.000673845585f, -0.0319269374f,   -0.0914577469f,   0.917004049f};
};
struct Tanh3 {  // Q(a) = 1 / (1 + exp(2 sqrt(2 / pi) (a + 0.044715 a^3)))
  static constexpr float kLimit = 5.95000887f;
  static constexpr float kRoot[] = {4.98137695e-07f, -1.13806263e-05f,  9.68863969e-05f, -0.000379377918f, 0.000531550031f,
                                    0.00107181852f,  -0.000338991347f, -0.0319966711f,  -0.0914507136f,   0.917004049f};
};

// Bound by multiplications and multiply-adds on two ports: 12 or 13 of them. Eight vectors at once are as many independent chains as
// hide the latency of Horner's rule. Measured on Zen 3, with load and store, cycles for 8 values: 7.0 (with an exponential 11.3).
template <class Function>
struct Gelu {
  static constexpr int kBlock = 8;
  static inline void apply(Vector (&x)[kBlock]) {
    constexpr int kTerms = sizeof(Function::kRoot) / sizeof(float);
    Vector a[kBlock], q[kBlock];
#pragma GCC unroll 8
    for (int u = 0; u < kBlock; ++u) {
      a[u] = min(splat(Function::kLimit), magnitude(x[u]));  // min keeps a NaN
      q[u] = fma(a[u], splat(Function::kRoot[0]), splat(Function::kRoot[1]));
    }
#pragma GCC unroll 8
    for (int i = 2; i < kTerms; ++i)
#pragma GCC unroll 8
      for (int u = 0; u < kBlock; ++u) q[u] = fma(q[u], a[u], splat(Function::kRoot[i]));
#pragma GCC unroll 3
    for (int squaring = 0; squaring < 3; ++squaring)
#pragma GCC unroll 8
      for (int u = 0; u < kBlock; ++u) q[u] = mul(q[u], q[u]);
#pragma GCC unroll 8
    for (int u = 0; u < kBlock; ++u) x[u] = fnma(a[u], q[u], max(splat(0.0f), x[u]));  // max keeps a NaN
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
