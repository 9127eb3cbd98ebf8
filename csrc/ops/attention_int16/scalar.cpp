#include "ops/attention_codes/reference.h"

namespace aerogel {

void attention_int16_scalar(const AttentionTask& task) { attend_in_codes(kAttentionWords, task); }

}  // namespace aerogel
