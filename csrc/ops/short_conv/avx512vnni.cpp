#include "vector/avx512vnni.h"

#include "ops/short_conv/body.h"

namespace aerogel {

void short_conv_avx512vnni(const ShortConvTask& task) { convolve(task); }

}  // namespace aerogel
