// 2^t for NEON: by the polynomial.
#pragma once

#include "vector/neon.h"

#include "ops/math.h"

namespace aerogel {

static inline Vector exp2(Vector t) { return exp2_by_polynomial(t); }
template <int count>
static inline void one_plus_exp(Vector (&x)[count]) { one_plus_exp_by_polynomial(x); }

}  // namespace aerogel
