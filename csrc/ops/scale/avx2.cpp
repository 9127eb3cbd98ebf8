#include "vector/avx2.h"

#include "ops/scale/body.h"

namespace aerogel {

void scale_avx2(const ScaleTask& task) { scale_array(task); }

}  // namespace aerogel
