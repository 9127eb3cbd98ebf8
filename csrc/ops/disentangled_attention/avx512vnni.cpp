#include "ops/math_avx512vnni.h"

#include "ops/disentangled_attention/body.h"

namespace aerogel {

void disentangled_attention_avx512vnni(const DisentangledTask& task) { attend_disentangled<12>(task); }

}  // namespace aerogel
