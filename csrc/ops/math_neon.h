// 2^t for NEON: by the polynomial.
#pragma once

#include "vector/neon.h"

#include "ops/math.h"

namespace aerogel {

static inline Vector exp2(Vector t) { return exp2_by_polynomial(t); }

}  // namespace aerogel
