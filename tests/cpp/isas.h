// Which kernels the tests run: every one of this CPU, or with AEROGEL_ISA set those of that instruction set alone, for
// emulators, where the others were tested natively and time is dear.
#pragma once

#include <cstdlib>

#include "kernels/table.h"

namespace aerogel::testing {

inline bool under_test(Isa isa, std::uint32_t features) {
  return kernel_available(isa, features) && (std::getenv("AEROGEL_ISA") == nullptr || isa == active_isa());
}

}  // namespace aerogel::testing
