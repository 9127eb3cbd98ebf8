#include "vector/neon.h"

#include "ops/quantize/body.h"

namespace aerogel {

void quantize_neon(const QuantizeTask& task) { quantize(task); }

}  // namespace aerogel
