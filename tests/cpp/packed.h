// A matrix for the runtime's tests, in the formats that would serve it.
#pragma once

#include "runtime/ops/linear.h"

namespace aerogel {
namespace testing {

// Of codes [n, k] and scales [n] where `codes` is given, else of values [n, k].
inline PackedLinear packed(std::int64_t n, std::int64_t k, const std::int8_t* codes, const float* scale, const float* values) {
  WeightSource source(k);
  WeightSource::Part part;
  part.rows = n;
  if (codes) {
    part.q8 = codes;
    part.scale = scale;
  } else {
    part.f32 = values;
  }
  source.add("w", part, n * k);
  return pack_linear(source, auto_forms(source, active_isa()), active_isa());
}

}  // namespace testing
}  // namespace aerogel
