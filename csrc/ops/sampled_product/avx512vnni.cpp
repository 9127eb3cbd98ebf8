// As for AVX2, with tiles of 128 tokens; 96 columns of them are 48 KB, an L1 of these CPUs. Not timed.
#include "vector/avx512vnni.h"

#include "ops/sampled_product/body.h"

namespace aerogel {
namespace {

struct Isa {
  static constexpr int vectors = 8;
  static constexpr std::int64_t columns = 96;
};

}  // namespace

void sampled_product_avx512vnni(const SampledTask& task) { sampled_product<Isa>(task); }

}  // namespace aerogel
