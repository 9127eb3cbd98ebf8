// Which sources a format can hold.
#pragma once

#include <string>

#include "linear/weight.h"

namespace aerogel {

// Empty if `format`, whose kernels take int8 activations or floats, can hold the source; else why not.
std::string refusal(const std::string& format, bool quantized_x, const WeightSource& source);

std::string refusal_grouped_q8(const WeightSource& source);
std::string refusal_grouped_qn(const WeightSource& source);

}  // namespace aerogel
