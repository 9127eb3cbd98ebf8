#include "vector/avx2.h"

#include "ops/quantize/body.h"

namespace aerogel {

void quantize_avx2(const QuantizeTask& task) { quantize(task); }

}  // namespace aerogel
