// Three passes over a row that stays in L1 (two for rms_norm): the sum, the squares of what is centred, the result
// with its largest magnitude; then its codes, where they are wanted. Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"
#include "ops/row.h"

namespace aerogel {
namespace {

// The first pass: n lanes of s = x, or s = x + residual, which is stored where there is a place for it.
template <bool added, bool stored>
struct Row {
  const float* x;
  const float* residual;
  float* s;
  template <class Lanes>
  Vector operator()(std::int64_t k, Lanes n) const {
    Vector v = load_first(x + k, n);
    if (added) v = add(v, load_first(residual + k, n));
    if (stored) store_first(s + k, v, n);
    return v;
  }
};

// The second: s - mean, with lanes beyond the row 0.
struct Centred {
  const float* s;
  Vector mean;
  template <class Lanes>
  Vector operator()(std::int64_t k, Lanes n) const {
    return keep_first(n, sub(load_first(s + k, n), mean));
  }
};

template <class Row, class Sum>
float accumulate(std::int64_t width, Row row, Sum sum) {
  Vector a = splat(0.0f), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes) {
    const Vector u = row(k, All{}), v = row(k + kLanes, All{}), w = row(k + 2 * kLanes, All{}), x = row(k + 3 * kLanes, All{});
    a = sum(u, a);
    b = sum(v, b);
    c = sum(w, c);
    d = sum(x, d);
  }
  for (; k < width; k += kLanes) a = sum(row(k, width - k), a);
  return sum_lanes(add(add(a, b), add(c, d)));
}

template <class Row>
float row_sum(std::int64_t width, Row row) {
  return accumulate(width, row, [](Vector v, Vector sum) { return add(sum, v); });
}

template <class Row>
float row_squares(std::int64_t width, Row row) {
  return accumulate(width, row, [](Vector v, Vector sum) { return fma(v, v, sum); });
}

enum class Kind { rms, layer, layer_without_beta };

// Returns the bits of the largest |y|.
template <Kind kind>
std::uint32_t finish(const NormTask& task, const float* s, float mean, float inverse, float* y) {
  const Vector means = splat(mean), inverses = splat(inverse);
  const float* gammas = task.gamma;  // copies, as a store through y could change the task for all that a compiler knows
  const float* betas = task.beta;
  Bits a{}, b{};
  const auto step = [&](std::int64_t k, auto n) {
    // gamma and beta are 0 beyond the row, and so is y, unless the row is poisoned: then so is its scale.
    const Vector v = load_first(s + k, n), gamma = load_first(gammas + k, n);
    if (kind == Kind::rms) return mul(mul(v, inverses), gamma);
    const Vector normal = mul(sub(v, means), inverses);
    if (kind == Kind::layer) return fma(normal, gamma, load_first(betas + k, n));
    return mul(normal, gamma);
  };
  std::int64_t k = 0;
  for (; k + 2 * kLanes <= task.width; k += 2 * kLanes) {
    const Vector u = step(k, All{}), v = step(k + kLanes, All{});
    store(y + k, u);
    store(y + k + kLanes, v);
    a = max(a, magnitude_bits(u));
    b = max(b, magnitude_bits(v));
  }
  for (; k < task.width; k += kLanes) {
    const Vector v = step(k, task.width - k);
    store_first(y + k, v, task.width - k);
    a = max(a, magnitude_bits(v));
  }
  return max_lanes(max(a, b));
}

template <Kind kind>
void norm(const NormTask& task) {
  const float width = static_cast<float>(task.width);
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    float* y = task.y + t * task.ldy;
    float* kept = task.sum != nullptr ? task.sum + t * task.ldx : y;  // y is overwritten at the end
    const float* s = task.residual != nullptr || task.sum != nullptr ? kept : x;
    const auto first_pass = [&](auto row) {
      return kind == Kind::rms ? row_squares(task.width, row) : row_sum(task.width, row);
    };
    float total;
    if (task.residual != nullptr) total = first_pass(Row<true, true>{x, task.residual + t * task.ldx, kept});
    else if (task.sum != nullptr) total = first_pass(Row<false, true>{x, nullptr, kept});
    else total = first_pass(Row<false, false>{x, nullptr, nullptr});
    const float mean = total / width;  // rms_norm: of the squares
    const float variance = kind == Kind::rms ? mean : row_squares(task.width, Centred{s, splat(mean)}) / width;
    const std::uint32_t largest = finish<kind>(task, s, mean, 1.0f / __builtin_sqrtf(variance + task.eps), y);
    if (task.q != nullptr) quantize_row(y, task.width, largest, task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

void layer_norm(const NormTask& task) {
  task.beta != nullptr ? norm<Kind::layer>(task) : norm<Kind::layer_without_beta>(task);
}

void rms_norm(const NormTask& task) { norm<Kind::rms>(task); }

}  // namespace
}  // namespace aerogel
