#include "vector/avx512vnni.h"

#include "ops/rope/body.h"

namespace aerogel {

void rope_avx512vnni(const RopeTask& task) { rope(task); }

}  // namespace aerogel
