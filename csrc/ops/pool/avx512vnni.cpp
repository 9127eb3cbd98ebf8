#include "vector/avx512vnni.h"

#include "ops/pool/body.h"

namespace aerogel {
namespace {

// max drops a NaN in its first operand: which lanes ever saw one is kept aside.
struct Max {
  Vector value;
  __mmask16 poison;
  void start(Vector x) {
    value = x;
    poison = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  }
  void take(Vector x) {
    value = max(value, x);
    poison = static_cast<__mmask16>(poison | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
  }
  Vector result(float) const { return _mm512_mask_blend_ps(poison, value, splat(__builtin_nanf(""))); }
};

}  // namespace

void mean_pool_avx512vnni(const PoolTask& task) { pool<Sum, 4>(task); }
void max_pool_avx512vnni(const PoolTask& task) { pool<Max, 4>(task); }
void l2_normalize_avx512vnni(const NormalizeTask& task) { l2_normalize(task); }

}  // namespace aerogel
