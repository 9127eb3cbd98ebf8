#include "vector/avx2.h"

#include "ops/short_conv/body.h"

namespace aerogel {

void short_conv_avx2(const ShortConvTask& task) { convolve(task); }

}  // namespace aerogel
