// Tiles of 64 tokens, in four vectors beside four sums; 192 columns of them are 48 KB, an L1 of these CPUs. 1,536x384 at 80 %, 608 tokens,
// one Zen 5 core: 1.64 ms; eight vectors with 96 columns 2.02, with 64 1.93; four with 96 1.89, with 384 1.84; six with 192 1.74. What is left
// above its 8 cycles of loads for four places (25 are taken) is the sum over lanes, and guessing where rows end.
#include "vector/avx512vnni.h"

#include "ops/sampled_product/body.h"

namespace aerogel {
namespace {

struct Isa {
  static constexpr int vectors = 4;
  static constexpr std::int64_t columns = 192;
};

}  // namespace

void sampled_product_avx512vnni(const SampledTask& task) { sampled_product<Isa>(task); }

}  // namespace aerogel
