// Bound by loads: a nonzero times 8 tokens is 2 FMAs and 2 loads of xt, its value comes in with three others. Correct under
// emulation, not measured.
#include "vector/neon.h"

#include "linear/csr_f32/body.h"

namespace aerogel {
namespace {

struct Isa {
  static constexpr int widest = 16;
  static constexpr std::int64_t strands = 1, ahead = 0;
};

}  // namespace

void run_csr_f32_neon(const LinearTask& task) { run<Isa>(task); }

}  // namespace aerogel
