#include "ops/attention_codes/reference.h"

namespace aerogel {

void attention_int8_scalar(const AttentionTask& task) { attend_in_codes(kAttentionBytes, task); }

}  // namespace aerogel
