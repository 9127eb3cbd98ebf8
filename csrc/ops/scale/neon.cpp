#include "vector/neon.h"

#include "ops/scale/body.h"

namespace aerogel {

void scale_neon(const ScaleTask& task) { scale_array(task); }

}  // namespace aerogel
