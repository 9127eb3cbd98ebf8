#include "vector/neon.h"

#include "ops/rope/body.h"

namespace aerogel {

void rope_neon(const RopeTask& task) { rope(task); }

}  // namespace aerogel
