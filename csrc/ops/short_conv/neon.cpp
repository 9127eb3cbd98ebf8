#include "vector/neon.h"

#include "ops/short_conv/body.h"

namespace aerogel {

void short_conv_neon(const ShortConvTask& task) { convolve(task); }

}  // namespace aerogel
