// How many rows gathered_q8 sorts together: a block, the unit of its tasks.
#pragma once

#include <cstdint>

#include "linear/gathered_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {

// Sorting more rows together packs a little better, more units balance threads better.
std::int64_t usual_sort_block(const WeightSource& source, const GatheredGeometry& geometry);

// For AVX-512: the rows of a block, 32, 64, 128 or 256, that make a call cheapest: the more rows are sorted together the fewer vectors a group
// needs where rows are uneven, but the dearer it is to bring the sums back into their order. geometry.chunk: as packed.
std::int64_t cheapest_sort_block(const WeightSource& source, const GatheredGeometry& geometry);

}  // namespace aerogel
