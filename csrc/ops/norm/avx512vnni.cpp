#include "vector/avx512vnni.h"

#include "ops/norm/body.h"

namespace aerogel {

void layer_norm_avx512vnni(const NormTask& task) { layer_norm(task); }
void rms_norm_avx512vnni(const NormTask& task) { rms_norm(task); }

}  // namespace aerogel
