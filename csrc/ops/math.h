// Exponentials over the vocabulary of a vector/<isa>.h, which is included before. Errors, measured over all floats: docs/numerics.md.
//
// 2^t = 2^k 2^f with k = round(t). Adding 1.5 * 2^23 + 127 rounds, and leaves k + 127 in the low bits of the sum, so
// that a shift makes 2^k; k = -127 makes 0 and k = 128 makes infinity. A NaN stays one through the polynomial.
#pragma once

namespace aerogel {

static inline Vector exp2_bias() { return splat(12582912.0f + 127.0f); }

// c0 + c1 f + ... + c5 f^5 in pairs: five multiply-adds in a row would wait for each other.
static inline Vector polynomial5(Vector f, float c0, float c1, float c2, float c3, float c4, float c5) {
  const Vector square = mul(f, f);
  const Vector low = fma(f, splat(c1), splat(c0)), middle = fma(f, splat(c3), splat(c2)), high = fma(f, splat(c5), splat(c4));
  return fma(fma(high, square, middle), square, low);
}

// t in [-127, 128]. 2^f by a polynomial of degree 5 with 2^0 = 1 exactly.
static inline Vector exp2_by_polynomial(Vector t) {
  const Vector shifted = add(t, exp2_bias());
  const Vector f = sub(t, sub(shifted, exp2_bias()));
  const Vector p = polynomial5(f, 1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647261f);
  return mul(p, power_of(shifted));
}

// e^f - 1 = f * expm1_over(f) for |f| <= ln(2) / 2.
static inline Vector expm1_over(Vector f) {
  return polynomial5(f, 1.0f, 0.5f, 0.166665047f, 0.0416662395f, 0.00836915802f, 0.00139485952f);
}

// x = k ln 2 + f; ln 2 in two floats, the first short enough that k times it is exact.
static inline Vector exp_reduce(Vector x, Vector* power) {
  const Vector shifted = fma(x, splat(1.44269504f), exp2_bias());
  const Vector k = sub(shifted, exp2_bias());
  *power = power_of(shifted);
  return fnma(k, splat(1.42860682e-6f), fnma(k, splat(0.693145752f), x));
}

// |tanh x| = m / (m + 2) with m = e^(2|x|) - 1 = 2^k (e^f - 1) + (2^k - 1), which keeps its precision near 0.
static inline Vector tanh(Vector x) {
  const Vector a = min(splat(10.0f), magnitude(x));  // min keeps a NaN
  Vector power;
  const Vector f = exp_reduce(add(a, a), &power);
  const Vector m = fma(power, mul(expm1_over(f), f), sub(power, splat(1.0f)));
  return with_sign_of(x, div(m, add(m, splat(2.0f))));
}

// 1 + e^x for x in [-80, 88.9]; infinity from 88.377 on.
template <int count>
static inline void one_plus_exp_by_polynomial(Vector (&x)[count]) {
  for (Vector& each : x) {
    Vector power;
    const Vector f = exp_reduce(each, &power);
    each = fma(fma(expm1_over(f), f, splat(1.0f)), power, splat(1.0f));
  }
}

}  // namespace aerogel
