#include "vector/avx512vnni.h"

#include "ops/scale/body.h"

namespace aerogel {

void scale_avx512vnni(const ScaleTask& task) { scale_array(task); }

}  // namespace aerogel
