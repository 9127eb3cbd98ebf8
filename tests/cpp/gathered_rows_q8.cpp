// What the gathered_rows_q8 kernels trust: that the packer keeps every nonzero once, inside its window; and the kernels on the edges of
// their tiles. linear.cpp, linear_q8.cpp and fuzz_q8.cpp run them too.
#include <cstring>

#include "check.h"
#include "linear/gathered_rows_q8/layout.h"
#include "matrix_q8.h"
#include "run_q8.h"

namespace aerogel {
namespace {

using namespace testing;

void check_vectors(const Matrix& m, const GatheredRowsView& v, const char* isa) {
  const std::int64_t block = kGatheredRowsBlock, bytes = gathered_rows_vector_bytes(v.rows);
  std::vector<std::int8_t> seen(m.codes.size());
  std::int64_t last = 0;
  for (std::int64_t unit = 0; unit * block < m.n; ++unit) {
    std::int64_t row_at[64];
    std::fill(row_at, row_at + block, -1);
    for (std::int64_t r = 0; r < block; ++r) {
      const std::int64_t place = v.place[unit * block + r];
      CHECK(place < block && row_at[place] < 0, isa << ": place " << place << " taken twice");
      row_at[place] = r;
    }
    for (std::int64_t part = 0; part < v.chunks * v.groups; ++part) {
      const std::int64_t chunk = part / v.groups, group = part % v.groups, *segment = v.segment + unit * v.chunks * v.groups + part;
      CHECK(segment[0] == last && segment[1] >= segment[0], isa << ": segments do not follow each other");
      last = segment[1];
      for (std::int64_t i = segment[0]; i < segment[1]; ++i)
        for (std::int64_t slot = 0; slot < 64; ++slot) {
          const std::uint8_t* vector = v.vectors + i * bytes;
          const std::int64_t column = chunk * v.chunk + v.window[i] * kGatheredRowsStep + vector[slot];
          CHECK(vector[slot] < 64 && column < m.k && column < (chunk + 1) * v.chunk, isa << ": column " << column << " outside its window or chunk");
          for (std::int64_t r = 0; r < v.rows; ++r) {
            const auto value = static_cast<std::int8_t>(vector[64 + 64 * r + slot]);
            if (value == 0) continue;
            const std::int64_t n = unit * block + row_at[group * 16 * v.rows + 16 * r + slot / 4];
            CHECK(n < m.n, isa << ": a weight in a row that does not exist");
            std::int8_t& at = seen[static_cast<std::size_t>(n * m.k + column)];
            CHECK(at == 0, isa << ": [" << n << ", " << column << "] packed twice");
            at = value;
          }
        }
    }
  }
  CHECK(seen == m.codes, isa << ": the vectors do not hold the weights of " << m.n << " x " << m.k);
}

TEST(gathered_rows_q8_packs_every_nonzero_once) {
  for (const LinearKernel* kernel : kernels_of("gathered_rows_q8"))
    for (const Matrix& m : matrices())
      for (std::int64_t rows : {1, 2, 4}) {
        const Matrix of = share_masks(m, rows);
        const std::unique_ptr<Weight> weight = of.pack(*kernel);
        check_vectors(of, *static_cast<const GatheredRowsView*>(weight->view()), isa_name(kernel->isa));
      }
}

TEST(gathered_rows_q8_at_its_edges) {
  for (std::int64_t rows : {2, 4}) check_edges("gathered_rows_q8", rows);
}

TEST(gathered_rows_q8_packs_the_same_bytes_again) {
  const Matrix m = share_masks(Matrix(130, 700, 80, 30, 5), 4);
  for (const LinearKernel* kernel : kernels_of("gathered_rows_q8")) {
    const std::unique_ptr<Weight> a = m.pack(*kernel), b = m.pack(*kernel);
    const auto& v = *static_cast<const GatheredRowsView*>(a->view());
    const auto& w = *static_cast<const GatheredRowsView*>(b->view());
    CHECK(v.rows == 4 && a->bytes() == b->bytes(), "expected sets of 4 rows and equal sizes");
    const auto vectors = static_cast<std::size_t>(v.segment[a->units() * v.chunks * v.groups]);
    CHECK(std::memcmp(v.vectors, w.vectors, vectors * 320) == 0 && std::memcmp(v.window, w.window, vectors * 2) == 0, "vectors differ");
  }
}

}  // namespace
}  // namespace aerogel
