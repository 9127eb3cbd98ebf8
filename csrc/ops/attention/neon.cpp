// Tiles of 6 rows by 2 vectors: 12 sums; a query element is loaded into all lanes.
#include "ops/math_neon.h"

#include "ops/attention/body.h"

namespace aerogel {

void attention_neon(const AttentionTask& task) { attend<6>(task); }

}  // namespace aerogel
