// Eight vectors of a row in registers beside four sums: a load a multiply-add, of which Zen 3 does two a cycle. 192 columns of 64 tokens
// are 48 KB: as a prototype 23 GMAC/s at 1152x384 and 80 %, and as much with 96 columns (24 KB, which L1 holds), but shorter runs of
// places cost more at 90 %: 19.3 against 18.0. Four vectors 21.5. A dense product of PyTorch's does 46 to 48 GMAC/s of all places.
// Whole calls, one Zen 3 core of a busy machine, shortest of 25, 1,024 tokens, times as fast as that at 80 / 90 %:
//     1152x384 2.2/3.7   384x384 2.1/3.3   1536x384 2.3/3.7   384x1536 2.0/3.2
#include "vector/avx2.h"

#include "ops/sampled_product/body.h"

namespace aerogel {
namespace {

struct Isa {
  static constexpr int vectors = 8;
  static constexpr std::int64_t columns = 192;
};

}  // namespace

void sampled_product_avx2(const SampledTask& task) { sampled_product<Isa>(task); }

}  // namespace aerogel
