#include "vector/avx2.h"

#include "ops/rope/body.h"

namespace aerogel {

void rope_avx2(const RopeTask& task) { rope(task); }

}  // namespace aerogel
