// Sixteen vectors of a row, 64 tokens, beside four sums in 32 registers. Not timed.
#include "vector/neon.h"

#include "ops/sampled_product/body.h"

namespace aerogel {
namespace {

struct Isa {
  static constexpr int vectors = 16;
  static constexpr std::int64_t columns = 192;
};

}  // namespace

void sampled_product_neon(const SampledTask& task) { sampled_product<Isa>(task); }

}  // namespace aerogel
