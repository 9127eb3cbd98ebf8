// What the blocks_q8 kernels trust: that the packer keeps every block with a nonzero once, and no other. linear.cpp,
// linear_q8.cpp and fuzz_q8.cpp run them.
#include <cstring>

#include "check.h"
#include "linear/blocks_q8/layout.h"
#include "matrix_q8.h"

namespace aerogel {
namespace {

using namespace testing;

TEST(blocks_q8_packs_every_nonzero_block_once) {
  for (const LinearKernel* kernel : kernels_of("blocks_q8"))
    for (const Matrix& m : matrices()) {
      const char* isa = isa_name(kernel->isa);
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      const auto& v = *static_cast<const BlocksView*>(weight->view());
      std::vector<std::int8_t> seen(m.codes.size());
      CHECK(v.begin[0] == 0, isa << ": the first list");
      for (std::int64_t list = 0; list < v.chunks * m.n; ++list) {
        std::int64_t last = -1;
        CHECK(v.begin[list] <= v.begin[list + 1], isa << ": lists do not follow each other");
        for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i) {
          const Block& block = v.blocks[i];
          const std::int64_t column = list / m.n * v.chunk + block.column / 2;
          CHECK(block.column % 8 == 0 && column > last && column < m.k && column < (list / m.n + 1) * v.chunk, isa << ": column of a block");
          last = column;
          CHECK((block.weight[0] | block.weight[1] | block.weight[2] | block.weight[3]) != 0, isa << ": an empty block");
          for (int j = 0; j < 4; ++j)
            if (block.weight[j] != 0) {
              CHECK(column + j < m.k, isa << ": a weight beyond K");
              seen[static_cast<std::size_t>(list % m.n * m.k + column + j)] = block.weight[j];
            }
        }
      }
      CHECK(seen == m.codes, isa << ": the blocks do not hold the weights of " << m.n << " x " << m.k);
    }
}

}  // namespace
}  // namespace aerogel
