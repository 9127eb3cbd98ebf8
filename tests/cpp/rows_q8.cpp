// What the rows_q8 kernels trust: that the packer keeps every column of a set with a nonzero once, and never lets a sum of 16 bits
// overflow. linear.cpp, linear_q8.cpp and fuzz_q8.cpp run them.
#include <cstring>

#include "check.h"
#include "linear/pattern.h"
#include "linear/rows_q8/layout.h"
#include "matrix_q8.h"

namespace aerogel {
namespace {

using namespace testing;

// Whether activations in [1, 255] times these weights, summed, stay within 16 bits.
bool fits(int a, int b) {
  const int plus = (a > 0 ? a : 0) + (b > 0 ? b : 0), minus = (a < 0 ? a : 0) + (b < 0 ? b : 0);
  return 255 * plus + minus <= 32767 && plus + 255 * minus >= -32768;
}

void check_quads(const Matrix& m, const RowsView& v, const char* isa) {
  std::vector<std::int8_t> seen(m.codes.size());
  CHECK(v.begin[0] == 0 && (v.rows == 2 || v.rows == 4) && v.sets == (m.n + v.rows - 1) / v.rows, isa << ": sets");
  for (std::int64_t list = 0; list < v.chunks * v.sets; ++list) {
    CHECK(v.begin[list] <= v.begin[list + 1], isa << ": lists do not follow each other");
    for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i) {
      const std::uint8_t* quad = v.quads + i * rows_quad_bytes(v.rows);
      std::uint16_t columns[4];
      std::memcpy(columns, quad, 8);
      for (std::int64_t r = 0; r < v.rows; ++r) {
        std::int8_t w[4];
        std::memcpy(w, quad + 8 + 4 * r, 4);
        CHECK(fits(w[0], w[1]) && fits(w[2], w[3]), isa << ": a pair of a quad can saturate");
        const std::int64_t n = list % v.sets * v.rows + r;
        for (int slot = 0; slot < 4; ++slot) {
          const std::int64_t column = list / v.sets * v.chunk + columns[slot] / 8;
          CHECK(columns[slot] % 8 == 0 && column < m.k && column < (list / v.sets + 1) * v.chunk, isa << ": column of a quad");
          if (w[slot] == 0) continue;
          CHECK(n < m.n, isa << ": a weight in a row that does not exist");
          std::int8_t& at = seen[static_cast<std::size_t>(n * m.k + column)];
          CHECK(at == 0, isa << ": [" << n << ", " << column << "] in two quads");
          at = w[slot];
        }
      }
    }
  }
  CHECK(seen == m.codes, isa << ": the quads do not hold the weights of " << m.n << " x " << m.k);
}

TEST(rows_q8_packs_every_column_of_a_set_once_and_safely) {
  for (const LinearKernel* kernel : kernels_of("rows_q8"))
    for (const Matrix& m : matrices())
      for (std::int64_t rows : {1, 2, 4}) {
        const Matrix of = share_masks(m, rows);
        const std::unique_ptr<Weight> weight = of.pack(*kernel);
        check_quads(of, *static_cast<const RowsView*>(weight->view()), isa_name(kernel->isa));
      }
}

TEST(rows_q8_finds_how_many_rows_share_a_mask) {
  const Matrix m(72, 200, 80, 1, 5);
  for (const LinearKernel* kernel : kernels_of("rows_q8")) {
    const std::unique_ptr<Weight> two = share_masks(m, 2).pack(*kernel), four = share_masks(m, 4).pack(*kernel), again = share_masks(m, 4).pack(*kernel);
    const auto& a = *static_cast<const RowsView*>(two->view());
    const auto& b = *static_cast<const RowsView*>(four->view());
    const auto& c = *static_cast<const RowsView*>(again->view());
    CHECK(a.rows == 2 && b.rows == 4, "expected sets of 2 and 4 rows, got " << a.rows << " and " << b.rows);
    // Most columns of uniform magnitudes find one that they fit.
    const std::int64_t quads = b.begin[b.chunks * b.sets];
    CHECK(2 * 16 * quads <= 3 * four->nonzeros(), quads << " quads for " << four->nonzeros() << " weights");
    CHECK(four->bytes() == again->bytes() && std::memcmp(b.quads, c.quads, static_cast<std::size_t>(quads * 24)) == 0, "packed twice, quads differ");
  }
}

}  // namespace
}  // namespace aerogel
