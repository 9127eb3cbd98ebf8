// Bound by loads: a nonzero times 32 tokens is 2 FMAs that each read xt, and a broadcast: 3 loads, 1.5 cycles while xt is in
// L1; from L2, two cache lines a nonzero. Not yet measured on a CPU.
#include "vector/avx512vnni.h"

#include "linear/csr_f32/body.h"

namespace aerogel {
namespace {

struct Isa {
  static constexpr int widest = 32;
  static constexpr std::int64_t strands = 2, ahead = 4096;  // 16 KB of values
};

}  // namespace

void run_csr_f32_avx512vnni(const LinearTask& task) { run<Isa>(task); }

}  // namespace aerogel
