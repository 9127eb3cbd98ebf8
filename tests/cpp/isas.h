// Which kernels the tests run: every one of this CPU, or with AEROGEL_ISA set those of that instruction set alone, for
// emulators, where the others were tested natively and time is dear. Those of AVX-VNNI need only AVX2: see vpdpbusd.h.
#pragma once

#include <cstdlib>

#include "kernels/table.h"
#include "linear/fits.h"
#include "vpdpbusd.h"

namespace aerogel::testing {

inline bool under_test(Isa isa, std::uint32_t features) {
  const bool runs = kernel_available(isa, features) || (isa == Isa::avxvnni && emulates_vpdpbusd());
  return runs && (std::getenv("AEROGEL_ISA") == nullptr || isa == active_isa());
}

// Whether the format of a kernel can hold any int8 codes; q4.cpp and grouped_q8.cpp test those that hold something else.
inline bool holds_int8(const LinearKernel& kernel) {
  const std::int8_t code = 1;
  const float scale = 1.0f;
  WeightSource source(1);
  WeightSource::Part part;
  part.rows = 1;
  part.q8 = &code;
  part.scale = &scale;
  source.add("w", part, 1);
  return kernel.quantized_x && refusal(kernel.format, kernel.quantized_x, source).empty();
}

// Whether the format of a kernel can hold any int8 codes or, if it takes floats, any floats.
inline bool holds_any(const LinearKernel& kernel) {
  if (kernel.quantized_x) return holds_int8(kernel);
  const float value = 1.0f;
  WeightSource source(1);
  WeightSource::Part part;
  part.rows = 1;
  part.f32 = &value;
  source.add("w", part, 1);
  return refusal(kernel.format, kernel.quantized_x, source).empty();
}

// Whether each instruction of a kernel costs as much as a thousand of another's: its large cases are left out then.
inline bool emulated(Isa isa) { return isa == Isa::avxvnni && emulates_vpdpbusd(); }

}  // namespace aerogel::testing
