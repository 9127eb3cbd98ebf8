#include "vector/neon.h"

#include "ops/pool/body.h"

namespace aerogel {
namespace {

// max keeps a NaN by itself.
struct Max {
  Vector value;
  void start(Vector x) { value = x; }
  void take(Vector x) { value = max(value, x); }
  Vector result(float) const { return value; }
};

}  // namespace

void mean_pool_neon(const PoolTask& task) { pool<Sum, 8>(task); }
void max_pool_neon(const PoolTask& task) { pool<Max, 8>(task); }
void l2_normalize_neon(const NormalizeTask& task) { l2_normalize(task); }

}  // namespace aerogel
