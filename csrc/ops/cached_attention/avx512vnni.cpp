#include "ops/math_avx512vnni.h"

#include "ops/cached_attention/body.h"

namespace aerogel {

void cached_attention_avx512vnni(const CachedAttentionTask& task) { attend_cached<12>(task); }

}  // namespace aerogel
