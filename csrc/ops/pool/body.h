// Pools: columns on the lanes, some vectors of them (whole cache lines) down all rows; row after row, so that a column's sum has
// one order on every instruction set. Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

struct Sum {
  Vector value;
  void start(Vector x) { value = x; }
  void take(Vector x) { value = add(value, x); }
  Vector result(float rows) const { return div(value, splat(rows)); }
};

// Columns k, ... of `vectors` vectors, or their first n.
template <class Column, int vectors, class Lanes>
inline void columns(const PoolTask& task, std::int64_t k, Lanes n) {
  Column column[vectors];
  const float* x = task.x + k;
  for (int u = 0; u < vectors; ++u) column[u].start(load_first(x + u * kLanes, n - u * kLanes));
  for (std::int64_t t = 1; t < task.rows; ++t) {
    x += task.ldx;
    for (int u = 0; u < vectors; ++u) column[u].take(load_first(x + u * kLanes, n - u * kLanes));
  }
  for (int u = 0; u < vectors; ++u)
    store_first(task.y + k + u * kLanes, column[u].result(static_cast<float>(task.rows)), n - u * kLanes);
}

template <class Column, int vectors>
void pool(const PoolTask& task) {
  constexpr std::int64_t kWide = vectors * kLanes;
  std::int64_t k = 0;
  for (; k + kWide <= task.width; k += kWide) columns<Column, vectors>(task, k, All{});
  for (; k + kLanes <= task.width; k += kLanes) columns<Column, 1>(task, k, All{});
  if (k < task.width) columns<Column, 1>(task, k, task.width - k);
}

void l2_normalize(const NormalizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.width;
    float* y = task.y + t * task.width;
    Vector sum[2] = {};
    const auto take = [&](int u, Vector v) { sum[u] = fma(v, v, sum[u]); };
    std::int64_t k = 0;
    for (; k + 2 * kLanes <= task.width; k += 2 * kLanes)
      for (int u = 0; u < 2; ++u) take(u, load(x + k + u * kLanes));
    for (; k < task.width; k += kLanes) take(0, load_first(x + k, task.width - k));
    const float norm = __builtin_sqrtf(sum_lanes(add(sum[0], sum[1])));
    const Vector factor = splat(1.0f / (norm < 1e-12f ? 1e-12f : norm));
    for (k = 0; k < task.width; k += kLanes) store_first(y + k, mul(load_first(x + k, task.width - k), factor), task.width - k);
  }
}

}  // namespace
}  // namespace aerogel
