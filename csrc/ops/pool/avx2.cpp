#include "vector/avx2.h"

#include "ops/pool/body.h"

namespace aerogel {
namespace {

// max drops a NaN in its first operand: which lanes ever saw one is kept aside.
struct Max {
  Vector value, poison;
  void start(Vector x) {
    value = x;
    poison = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  }
  void take(Vector x) {
    value = max(value, x);
    poison = _mm256_or_ps(poison, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }
  Vector result(float) const { return _mm256_or_ps(value, poison); }  // all bits set is a NaN
};

}  // namespace

void mean_pool_avx2(const PoolTask& task) { pool<Sum, 8>(task); }
void max_pool_avx2(const PoolTask& task) { pool<Max, 6>(task); }
void l2_normalize_avx2(const NormalizeTask& task) { l2_normalize(task); }

}  // namespace aerogel
