#include "runtime/ops/quantize.h"

#include "runtime/work.h"

namespace aerogel {

void Quantize::run(const Work& work) const {
  const std::int64_t width = result().width, ldq = codes_ld(width);
  const float* const x = work.x();
  std::int8_t* const codes = work.y_codes();
  float* const scales = work.y_scales();
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int) {
    work.ops.quantize({x + begin * width, width, count, width, codes + begin * ldq, ldq, scales + begin, limit_});
  });
}

}  // namespace aerogel
