#include "vector/avx2.h"

#include "ops/norm/body.h"

namespace aerogel {

void layer_norm_avx2(const NormTask& task) { layer_norm(task); }
void rms_norm_avx2(const NormTask& task) { rms_norm(task); }

}  // namespace aerogel
