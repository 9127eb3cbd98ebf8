// Pools: columns on the lanes, 64 columns (four cache lines) down all rows; row after row, so that a column's sum has
// one order on every instruction set.
#include "ops/math_avx512vnni.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

struct Sum {
  __m512 value;
  void start(__m512 x) { value = x; }
  void take(__m512 x) { value = _mm512_add_ps(value, x); }
  __m512 result(float rows) const { return _mm512_div_ps(value, _mm512_set1_ps(rows)); }
};

// max_ps drops a NaN in its first operand: which lanes ever saw one is kept aside.
struct Max {
  __m512 value;
  __mmask16 poison;
  void start(__m512 x) {
    value = x;
    poison = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  }
  void take(__m512 x) {
    value = _mm512_max_ps(value, x);
    poison = static_cast<__mmask16>(poison | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
  }
  __m512 result(float) const { return _mm512_mask_blend_ps(poison, value, _mm512_set1_ps(__builtin_nanf(""))); }
};

template <class Column, int vectors>
void columns(const PoolTask& task, std::int64_t k) {
  Column column[vectors];
  const float* x = task.x + k;
  for (int u = 0; u < vectors; ++u) column[u].start(_mm512_loadu_ps(x + 16 * u));
  for (std::int64_t t = 1; t < task.rows; ++t) {
    x += task.ldx;
    for (int u = 0; u < vectors; ++u) column[u].take(_mm512_loadu_ps(x + 16 * u));
  }
  for (int u = 0; u < vectors; ++u) _mm512_storeu_ps(task.y + k + 16 * u, column[u].result(static_cast<float>(task.rows)));
}

template <class Column, int vectors>
void pool(const PoolTask& task) {
  std::int64_t k = 0;
  for (; k + 16 * vectors <= task.width; k += 16 * vectors) columns<Column, vectors>(task, k);
  for (; k + 16 <= task.width; k += 16) columns<Column, 1>(task, k);
  if (k < task.width) {
    const std::int64_t n = task.width - k;
    Column column;
    column.start(load_first(task.x + k, n));
    for (std::int64_t t = 1; t < task.rows; ++t) column.take(load_first(task.x + t * task.ldx + k, n));
    store_first(task.y + k, column.result(static_cast<float>(task.rows)), n);
  }
}

}  // namespace

void mean_pool_avx512vnni(const PoolTask& task) { pool<Sum, 4>(task); }
void max_pool_avx512vnni(const PoolTask& task) { pool<Max, 4>(task); }

void l2_normalize_avx512vnni(const NormalizeTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.width;
    float* y = task.y + t * task.width;
    __m512 a = _mm512_setzero_ps(), b = a;
    std::int64_t k = 0;
    for (; k + 32 <= task.width; k += 32) {
      const __m512 u = _mm512_loadu_ps(x + k), v = _mm512_loadu_ps(x + k + 16);
      a = _mm512_fmadd_ps(u, u, a);
      b = _mm512_fmadd_ps(v, v, b);
    }
    for (; k < task.width; k += 16) {
      const __m512 v = load_first(x + k, task.width - k);
      a = _mm512_fmadd_ps(v, v, a);
    }
    const float norm = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(sum_lanes(_mm512_add_ps(a, b)))));
    const __m512 factor = _mm512_set1_ps(1.0f / (norm < 1e-12f ? 1e-12f : norm));
    for (k = 0; k < task.width; k += 16)
      store_first(y + k, _mm512_mul_ps(load_first(x + k, task.width - k), factor), task.width - k);
  }
}

}  // namespace aerogel
