#include "ops/math_neon.h"

#include "ops/cached_attention/body.h"

namespace aerogel {

void cached_attention_neon(const CachedAttentionTask& task) { attend_cached<6>(task); }

}  // namespace aerogel
