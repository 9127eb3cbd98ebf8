#include "ops/math_avx2.h"

#include "ops/disentangled_attention/body.h"

namespace aerogel {

void disentangled_attention_avx2(const DisentangledTask& task) { attend_disentangled<6>(task); }

}  // namespace aerogel
