// Bytes win nothing over words here: 32 products are vpmaddubsw, vpmaddwd and vpaddd, two of which need the two pipes that multiply, and
// of words they are two vpmaddwd and two vpaddd. So the products stay those of words, whose error is smaller than what is allowed.
#include "ops/ops.h"

namespace aerogel {

void attention_int16_avx2(const AttentionTask& task);

void attention_int8_avx2(const AttentionTask& task) { attention_int16_avx2(task); }

}  // namespace aerogel
