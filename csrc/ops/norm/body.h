// Three passes over a row that stays in L1 (two for rms_norm): the sum, the squares of what is centred, the result
// with its largest magnitude; then its codes, where they are wanted. Four rows go through each pass before the next one, so that the
// processor need not wait for the lanes of one row to come together, nor for its root. Over the vocabulary of a vector/<isa>.h, which
// is included before.
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

// Sums, lane by lane.
template <bool squares, class Row>
Vector sum_of(std::int64_t width, Row row) {
  Vector sum[4] = {};
  const auto take = [&](int u, Vector v) { sum[u] = squares ? fma(v, v, sum[u]) : add(sum[u], v); };
  std::int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes)
    for (int u = 0; u < 4; ++u) take(u, row(k + u * kLanes, All{}));
  for (; k < width; k += kLanes) take(0, row(k, width - k));
  return add(add(sum[0], sum[1]), add(sum[2], sum[3]));
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

constexpr int kTogether = 4;

// Rows [t, t + count), at most kTogether. What a row becomes does not depend on those beside it.
template <Kind kind>
void norm(const NormTask& task, std::int64_t t, int count) {
  const float width = static_cast<float>(task.width);
  // Where nobody asks for s it is kept in y, which is overwritten at the end.
  const auto y = [&](int i) { return task.y + (t + i) * task.ldy; };
  const auto kept = [&](int i) { return task.sum != nullptr ? task.sum + (t + i) * task.ldx : y(i); };
  const auto s = [&](int i) -> const float* {
    return task.residual != nullptr || task.sum != nullptr ? kept(i) : task.x + (t + i) * task.ldx;
  };
  Vector lanes[kTogether] = {};
  for (int i = 0; i < count; ++i) {
    const float* const x = task.x + (t + i) * task.ldx;
    const auto first_pass = [&](auto row) { return sum_of<kind == Kind::rms>(task.width, row); };
    if (task.residual != nullptr) lanes[i] = first_pass(Row<true, true>{x, task.residual + (t + i) * task.ldx, kept(i)});
    else if (task.sum != nullptr) lanes[i] = first_pass(Row<false, true>{x, nullptr, kept(i)});
    else lanes[i] = first_pass(Row<false, false>{x, nullptr, nullptr});
  }
  float mean[kTogether], inverse[kTogether];  // rms_norm: the mean of the squares
  store_sums_of_four(mean, lanes[0], lanes[1], lanes[2], lanes[3]);
  for (float& each : mean) each /= width;
  if (kind == Kind::rms) {
    for (int i = 0; i < kTogether; ++i) inverse[i] = mean[i];
  } else {
    for (int i = 0; i < count; ++i) lanes[i] = sum_of<true>(task.width, Centred{s(i), splat(mean[i])});
    store_sums_of_four(inverse, lanes[0], lanes[1], lanes[2], lanes[3]);
    for (float& each : inverse) each /= width;
  }
  for (float& each : inverse) each = 1.0f / __builtin_sqrtf(each + task.eps);
  std::uint32_t largest[kTogether];
  for (int i = 0; i < count; ++i) largest[i] = finish<kind>(task, s(i), mean[i], inverse[i], y(i));
  if (task.q == nullptr) return;
  for (int i = 0; i < count; ++i)
    quantize_row(y(i), task.width, largest[i], task.q + (t + i) * task.ldq, task.ldq, task.q_scale + t + i);
}

template <Kind kind>
void norm(const NormTask& task) {
  const int together = task.ldy == 0 ? 1 : kTogether;  // rows that share one row of scratch take turns
  for (std::int64_t t = 0; t < task.rows; t += together)
    norm<kind>(task, t, static_cast<int>(task.rows - t < together ? task.rows - t : together));
}

void layer_norm(const NormTask& task) {
  task.beta != nullptr ? norm<Kind::layer>(task) : norm<Kind::layer_without_beta>(task);
}

void rms_norm(const NormTask& task) { norm<Kind::rms>(task); }

}  // namespace
}  // namespace aerogel
