// Runs the AVX-VNNI kernels, as they are compiled, on CPUs that lack just their one new instruction.
#pragma once

namespace aerogel::testing {

// Whether {vex} vpdpbusd is emulated from here on: on Linux, where the CPU has AVX2 and not AVX-VNNI, a handler of SIGILL does what
// the instruction does. It costs about a microsecond each.
bool emulates_vpdpbusd();

}  // namespace aerogel::testing
