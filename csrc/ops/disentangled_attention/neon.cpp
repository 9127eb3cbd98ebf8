#include "ops/math_neon.h"

#include "ops/disentangled_attention/body.h"

namespace aerogel {

void disentangled_attention_neon(const DisentangledTask& task) { attend_disentangled<6>(task); }

}  // namespace aerogel
