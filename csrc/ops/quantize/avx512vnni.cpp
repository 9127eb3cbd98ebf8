#include "vector/avx512vnni.h"

#include "ops/quantize/body.h"

namespace aerogel {

void quantize_avx512vnni(const QuantizeTask& task) { quantize(task); }

}  // namespace aerogel
