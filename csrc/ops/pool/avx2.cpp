// Pools: columns on the lanes, 64 columns (four cache lines) down all rows; row after row, so that a column's sum has
// one order on every instruction set.
#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

struct Sum {
  __m256 value;
  void start(__m256 x) { value = x; }
  void take(__m256 x) { value = _mm256_add_ps(value, x); }
  __m256 result(float rows) const { return _mm256_div_ps(value, _mm256_set1_ps(rows)); }
};

// max_ps drops a NaN in its first operand: which lanes ever saw one is kept aside.
struct Max {
  __m256 value, poison;
  void start(__m256 x) {
    value = x;
    poison = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  }
  void take(__m256 x) {
    value = _mm256_max_ps(value, x);
    poison = _mm256_or_ps(poison, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }
  __m256 result(float) const { return _mm256_or_ps(value, poison); }  // all bits set is a NaN
};

template <class Column, int vectors>
void columns(const PoolTask& task, std::int64_t k) {
  Column column[vectors];
  const float* x = task.x + k;
  for (int u = 0; u < vectors; ++u) column[u].start(_mm256_loadu_ps(x + 8 * u));
  for (std::int64_t t = 1; t < task.rows; ++t) {
    x += task.ldx;
    for (int u = 0; u < vectors; ++u) column[u].take(_mm256_loadu_ps(x + 8 * u));
  }
  for (int u = 0; u < vectors; ++u) _mm256_storeu_ps(task.y + k + 8 * u, column[u].result(static_cast<float>(task.rows)));
}

template <class Column, int vectors>
void pool(const PoolTask& task) {
  std::int64_t k = 0;
  for (; k + 8 * vectors <= task.width; k += 8 * vectors) columns<Column, vectors>(task, k);
  for (; k + 8 <= task.width; k += 8) columns<Column, 1>(task, k);
  if (k < task.width) {
    const std::int64_t n = task.width - k;
    Column column;
    column.start(load_first(task.x + k, n));
    for (std::int64_t t = 1; t < task.rows; ++t) column.take(load_first(task.x + t * task.ldx + k, n));
    store_first(task.y + k, column.result(static_cast<float>(task.rows)), n);
  }
}

}  // namespace

void mean_pool_avx2(const PoolTask& task) { pool<Sum, 8>(task); }
void max_pool_avx2(const PoolTask& task) { pool<Max, 6>(task); }

void l2_normalize_avx2(const NormalizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.width;
    float* y = task.y + t * task.width;
    __m256 a = _mm256_setzero_ps(), b = a;
    std::int64_t k = 0;
    for (; k + 16 <= task.width; k += 16) {
      const __m256 u = _mm256_loadu_ps(x + k), v = _mm256_loadu_ps(x + k + 8);
      a = _mm256_fmadd_ps(u, u, a);
      b = _mm256_fmadd_ps(v, v, b);
    }
    for (; k < task.width; k += 8) {
      const __m256 v = load_first(x + k, task.width - k);
      a = _mm256_fmadd_ps(v, v, a);
    }
    const float norm = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(sum_lanes(_mm256_add_ps(a, b)))));
    const __m256 factor = _mm256_set1_ps(1.0f / (norm < 1e-12f ? 1e-12f : norm));
    for (k = 0; k < task.width; k += 8)
      store_first(y + k, _mm256_mul_ps(load_first(x + k, task.width - k), factor), task.width - k);
  }
}

}  // namespace aerogel
