// dense_q8 on Advanced SIMD without the dot product extension.
//
// Bound: the multipliers. 16 products are smull (8), smlal2 (8 more on top: two products of at most 127^2 fit an int16, three
// would not) and sadalp (int16 pairs into int32): 5.3 products an instruction, where widening both sides and smlal on int16
// would do 4. Sums run along k within a register, so that neither side is broadcast or copied, and lanes are added once at the
// end. The tile is 4 tokens x 4 rows: 16 accumulators, 8 loads for 48 arithmetic instructions. One panel of 4 rows stays in
// L1 while the tokens pass over it. Tested in emulation, not yet timed on hardware.
#include "linear/dense_q8/layout.h"
#include "linear/dense_q8/tile_neon.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_q8_neon(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  run_panels(task, w.n, w.k_padded, w.scale, [&w](std::int64_t panel) { return w.codes + panel * kRows * w.k_padded; });
}

}  // namespace aerogel
