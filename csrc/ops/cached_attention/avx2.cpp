#include "ops/math_avx2.h"

#include "ops/cached_attention/body.h"

namespace aerogel {

void cached_attention_avx2(const CachedAttentionTask& task) { attend_cached<6>(task); }

}  // namespace aerogel
