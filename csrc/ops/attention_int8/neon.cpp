// Without dot products bytes win nothing here (attention_int16/neon.cpp): the products stay those of floats.
#include "ops/ops.h"

namespace aerogel {

void attention_neon(const AttentionTask& task);

void attention_int8_neon(const AttentionTask& task) { attention_neon(task); }

}  // namespace aerogel
