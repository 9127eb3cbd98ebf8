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

template <bool squares, class Row>
float sum_of(std::int64_t width, Row row) {
  Vector sum[4] = {};
  const auto take = [&](int u, Vector v) { sum[u] = squares ? fma(v, v, sum[u]) : add(sum[u], v); };
  std::int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes)
    for (int u = 0; u < 4; ++u) take(u, row(k + u * kLanes, All{}));
  for (; k < width; k += kLanes) take(0, row(k, width - k));
  return sum_lanes(add(add(sum[0], sum[1]), add(sum[2], sum[3])));
}

enum class Kind { rms, layer, layer_without_beta };

// Returns the bits of the largest |y|.
template <Kind kind>
std::uint32_t finish(const NormTask& task, const float* s, float mean, float inverse, float* y) {
  const Vector means = splat(mean), inverses = splat(inverse);
  const float* gammas = task.gamma;  // copies, as a store through y could change the task for all that a compiler knows
  const float* betas = task.beta;
  Bits largest[2] = {};
  const auto step = [&](std::int64_t k, int u, auto n) {
    const Vector v = load_first(s + k, n), gamma = load_first(gammas + k, n);
    Vector result;
    if (kind == Kind::rms) {
      result = mul(mul(v, inverses), gamma);
    } else {
      const Vector normal = mul(sub(v, means), inverses);
      result = kind == Kind::layer ? fma(normal, gamma, load_first(betas + k, n)) : mul(normal, gamma);
    }
    store_first(y + k, result, n);
    largest[u] = max(largest[u], magnitude_bits(result));
  };
  std::int64_t k = 0;
  for (; k + 2 * kLanes <= task.width; k += 2 * kLanes)
    for (int u = 0; u < 2; ++u) step(k + u * kLanes, u, All{});
  // gamma and beta are 0 beyond the row, and so is y, unless the row is poisoned: then so is its scale.
  for (; k < task.width; k += kLanes) step(k, 0, task.width - k);
  return max_lanes(max(largest[0], largest[1]));
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
      return sum_of<kind == Kind::rms>(task.width, row);
    };
    float total;
    if (task.residual != nullptr) total = first_pass(Row<true, true>{x, task.residual + t * task.ldx, kept});
    else if (task.sum != nullptr) total = first_pass(Row<false, true>{x, nullptr, kept});
    else total = first_pass(Row<false, false>{x, nullptr, nullptr});
    const float mean = total / width;  // rms_norm: of the squares
    const float variance = kind == Kind::rms ? mean : sum_of<true>(task.width, Centred{s, splat(mean)}) / width;
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
