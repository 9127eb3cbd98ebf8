// What the blocks_q8 kernels trust: that the packers keep every block with a nonzero once, and no other but to fill lists up.
// linear.cpp, linear_q8.cpp and fuzz_q8.cpp run them.
#include <algorithm>
#include <cstring>

#include "check.h"
#include "linear/blocks_q8/layout.h"
#include "matrix_q8.h"

namespace aerogel {
namespace {

using namespace testing;

void check_rows(const Matrix& m, const BlocksView& v, const char* isa) {
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

void check_fours(const Matrix& m, const FourBlocksView& v, const char* isa) {
  constexpr std::int64_t kRows = kFourBlocksRows;
  std::vector<std::int8_t> seen(m.codes.size());
  std::uint32_t last = 0;
  const std::uint32_t* begin = v.begin;
  for (std::int64_t first = 0; first < m.n; first += kRows) {
    std::vector<std::int64_t> row_at(kRows, -1);
    for (std::int64_t r = 0; r < kRows; ++r) {
      CHECK(v.place[first + r] < kRows && row_at[v.place[first + r]] == -1, isa << ": two rows at place " << int{v.place[first + r]});
      row_at[v.place[first + r]] = first + r;
    }
    for (std::int64_t place = 0; place < kRows; ++place) {
      const std::int64_t n = row_at[place];
      std::int64_t sum = 0;
      for (std::int64_t k = 0; n < m.n && k < m.k; ++k) sum += m.codes[n * m.k + k];
      CHECK(v.start[first + place] == -128 * sum, isa << ": where the sums of place " << place << " begin");
    }
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk)
      for (std::int64_t place = 0; place < kRows; place += 4, ++begin) {
        CHECK(begin[0] == last && begin[1] >= begin[0], isa << ": lists do not follow each other");
        last = begin[1];
        for (std::int64_t r = 0; r < 4; ++r) {
          std::int64_t before = -1;
          bool filled = false;  // with nothing, up to the longest list
          for (std::uint32_t i = begin[0]; i < begin[1]; ++i) {
            const std::int8_t* w = v.blocks[i].weight[r];
            const std::int64_t column = chunk * v.chunk + v.blocks[i].column[r] / 8, n = row_at[place + r];
            CHECK(v.blocks[i].column[r] % 32 == 0 && column < m.k && column < (chunk + 1) * v.chunk, isa << ": column of a block");
            if ((w[0] | w[1] | w[2] | w[3]) == 0) {
              CHECK(v.blocks[i].column[r] == 0, isa << ": column of a free block");
              filled = true;
              continue;
            }
            CHECK(!filled && column > before && n < m.n, isa << ": a block behind the end of its row's list");
            before = column;
            for (int j = 0; j < 4; ++j)
              if (w[j] != 0) {
                CHECK(column + j < m.k, isa << ": a weight beyond K");
                seen[static_cast<std::size_t>(n * m.k + column + j)] = w[j];
              }
          }
        }
        for (std::uint32_t i = begin[0]; i < begin[1]; ++i)
          CHECK(std::any_of(&v.blocks[i].weight[0][0], &v.blocks[i].weight[0][0] + 16, [](int w) { return w != 0; }), isa << ": a list is too long");
      }
  }
  CHECK(seen == m.codes, isa << ": the blocks do not hold the weights of " << m.n << " x " << m.k);
}

TEST(blocks_q8_packs_every_nonzero_block_once) {
  for (const LinearKernel* kernel : kernels_of("blocks_q8"))
    for (const Matrix& m : matrices()) {
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      if (kernel->isa == Isa::avx512vnni)
        check_fours(m, *static_cast<const FourBlocksView*>(weight->view()), isa_name(kernel->isa));
      else
        check_rows(m, *static_cast<const BlocksView*>(weight->view()), isa_name(kernel->isa));
    }
}

}  // namespace
}  // namespace aerogel
