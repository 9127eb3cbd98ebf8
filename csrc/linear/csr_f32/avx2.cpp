// Bound by loads, of which Zen 3 sustained two a cycle, those of columns included: a step of 4 nonzeros times 16 tokens is 8 FMAs
// that each read xt, one load of the values, shuffled into place, and one of the columns: 5 cycles; 7.5 to 8.3 measured at 768
// columns. xt is 64 bytes a column: beyond 500 columns it comes from L2, and the larger it is the less is gained.
// Times faster than dense_f32 on one Zen 3 thread of a busy machine (alternating calls, shortest of each), at 80/90/95 %:
//     128 tokens  768x768  2.5/5.2/10   3072x768  2.6/4.8/7.5   768x3072  2.2/4.2/6.5 (outputs x inputs)
//      16 tokens  768x768  3.3/5.7/9.7  3072x768  4.1/6.6/12    768x3072  3.5/8.1/14, where dense_f32 waits for its weights
//       1 token   768x768  0.8/1.6/2.8
// Tried at 768x768 and not kept: tiles of 32 tokens (0.92 to 1.1x of the speed), of 24 (0.87 to 1.06x; 0.74x with 3072 columns) and
// of 12 or 20 (slower than the next wider); passes over 400 columns (1.01 to 1.03x), over 256 and fewer (0.7 to 0.98x); columns
// stored as byte offsets (1.03x).
#include "vector/avx2.h"

#include "linear/csr_f32/body.h"

namespace aerogel {
namespace {

// One token: prefetching gave 1.2 to 1.7x at 4096x4096 and 80 %, and 0.9x at 95 %, where the last-level cache holds the weights.
struct Isa {
  static constexpr int widest = 16;
  static constexpr std::int64_t strands = 2, ahead = 4096;  // 16 KB of values
};

}  // namespace

void run_csr_f32_avx2(const LinearTask& task) { run<Isa>(task); }

}  // namespace aerogel
