#include "vector/neon.h"

#include "ops/norm/body.h"

namespace aerogel {

void layer_norm_neon(const NormTask& task) { layer_norm(task); }
void rms_norm_neon(const NormTask& task) { rms_norm(task); }

}  // namespace aerogel
