// Tiles of 12 rows by 2 vectors: 24 sums; 2 loads and 12 broadcasts for 24 multiply-adds, so bound by the two FMA ports.
#include "ops/math_avx512vnni.h"

#include "ops/attention/body.h"

namespace aerogel {

void attention_avx512vnni(const AttentionTask& task) { attend<12>(task); }

}  // namespace aerogel
