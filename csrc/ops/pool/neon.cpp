// Pools: columns on the lanes, 32 columns (two cache lines) down all rows; row after row, so that a column's sum has
// one order on every instruction set.
#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

struct Sum {
  float32x4_t value;
  void start(float32x4_t x) { value = x; }
  void take(float32x4_t x) { value = vaddq_f32(value, x); }
  float32x4_t result(float rows) const { return vdivq_f32(value, vdupq_n_f32(rows)); }
};

// vmaxq keeps a NaN by itself.
struct Max {
  float32x4_t value;
  void start(float32x4_t x) { value = x; }
  void take(float32x4_t x) { value = vmaxq_f32(value, x); }
  float32x4_t result(float) const { return value; }
};

template <class Column, int vectors>
void columns(const PoolTask& task, std::int64_t k) {
  Column column[vectors];
  const float* x = task.x + k;
  for (int u = 0; u < vectors; ++u) column[u].start(vld1q_f32(x + 4 * u));
  for (std::int64_t t = 1; t < task.rows; ++t) {
    x += task.ldx;
    for (int u = 0; u < vectors; ++u) column[u].take(vld1q_f32(x + 4 * u));
  }
  for (int u = 0; u < vectors; ++u) vst1q_f32(task.y + k + 4 * u, column[u].result(static_cast<float>(task.rows)));
}

template <class Column, int vectors>
void pool(const PoolTask& task) {
  std::int64_t k = 0;
  for (; k + 4 * vectors <= task.width; k += 4 * vectors) columns<Column, vectors>(task, k);
  for (; k + 4 <= task.width; k += 4) columns<Column, 1>(task, k);
  if (k < task.width) {
    const std::int64_t n = task.width - k;
    Column column;
    column.start(load_first(task.x + k, n));
    for (std::int64_t t = 1; t < task.rows; ++t) column.take(load_first(task.x + t * task.ldx + k, n));
    store_first(task.y + k, column.result(static_cast<float>(task.rows)), n);
  }
}

}  // namespace

void mean_pool_neon(const PoolTask& task) { pool<Sum, 8>(task); }
void max_pool_neon(const PoolTask& task) { pool<Max, 8>(task); }

void l2_normalize_neon(const NormalizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.width;
    float* y = task.y + t * task.width;
    float32x4_t a = vdupq_n_f32(0.0f), b = a;
    std::int64_t k = 0;
    for (; k + 8 <= task.width; k += 8) {
      const float32x4_t u = vld1q_f32(x + k), v = vld1q_f32(x + k + 4);
      a = fmadd(u, u, a);
      b = fmadd(v, v, b);
    }
    for (; k < task.width; k += 4) {
      const float32x4_t v = load_first(x + k, task.width - k);
      a = fmadd(v, v, a);
    }
    const float norm = vget_lane_f32(vsqrt_f32(vdup_n_f32(vaddvq_f32(vaddq_f32(a, b)))), 0);
    const float32x4_t factor = vdupq_n_f32(1.0f / (norm < 1e-12f ? 1e-12f : norm));
    for (k = 0; k < task.width; k += 4)
      store_first(y + k, vmulq_f32(load_first(x + k, task.width - k), factor), task.width - k);
  }
}

}  // namespace aerogel
