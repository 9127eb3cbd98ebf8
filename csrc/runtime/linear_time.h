// Timing packed linears against each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/packed_linear.h"

namespace aerogel {

struct LinearTiming {
  std::int64_t rows = 1;          // tokens of a call
  int threads = 0;                // 0: default_threads()
  int rounds = 5;
  double seconds = 0.05;          // no further round begins after so long, but there are at least three
  bool evict = false;             // throw the weights out of the caches before each call, so that they come from DRAM
};

// Seconds of each call, [candidate][round]. The candidates take turns inside a round, so that whatever else the machine
// does hits them alike; a first round is not counted. Quantizing the input is not part of it.
std::vector<std::vector<double>> time_linears(const std::vector<PackedLinear>& candidates, const LinearTiming& timing);

}  // namespace aerogel
