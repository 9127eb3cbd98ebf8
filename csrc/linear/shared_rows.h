// How many neighbouring rows share a mask.
#pragma once

#include <cstdint>

#include "linear/weight.h"

namespace aerogel {

// 4 or 2: whichever stores fewer weights, when every block of so many rows and one column that is not empty is stored whole. 4
// where it stores at most a tenth more, as it is the faster one.
std::int64_t shared_rows(const WeightSource& source);

}  // namespace aerogel
