// What the quads_q8 kernels trust: that the packer keeps every nonzero once and never lets a sum of 16 bits
// overflow. linear.cpp, linear_q8.cpp and fuzz_q8.cpp run them.
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "check.h"
#include "linear/quads_q8/layout.h"
#include "matrix_q8.h"

namespace aerogel {
namespace {

using namespace testing;

// Whether activations in [1, 255] times these weights, summed, stay within 16 bits.
bool fits(std::initializer_list<int> weights) {
  int plus = 0, minus = 0;
  for (int w : weights) (w > 0 ? plus : minus) += w;
  return 255 * plus + minus <= 32767 && plus + 255 * minus >= -32768;
}

void check_quads(const Matrix& m, const QuadsView& v, const char* isa) {
  std::vector<std::int8_t> seen(m.codes.size());
  CHECK(v.begin[0] == 0, isa << ": the first list");
  for (std::int64_t list = 0; list < v.chunks * m.n; ++list) {
    const std::int64_t chunk = list / m.n, place = list % m.n, n = place / kQuadsSet * kQuadsSet + v.row[list];
    if (place % kQuadsSet != 0)
      CHECK(v.begin[list] - v.begin[list - 1] <= v.begin[list + 1] - v.begin[list], isa << ": lists of a set are not sorted");
    CHECK(v.begin[list] <= v.light[list] && v.light[list] <= v.begin[list + 1], isa << ": lists do not follow each other");
    CHECK((v.light[list] - v.begin[list]) % 2 == 0, isa << ": a light quad without its other");
    for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i) {
      const Quad& quad = v.quads[i];
      const std::int8_t* w = quad.weight;
      CHECK(fits({w[0], w[1]}) && fits({w[2], w[3]}), isa << ": a pair of a quad can saturate");
      if (i < v.light[list] && (i - v.begin[list]) % 2 == 1) {
        const std::int8_t* u = v.quads[i - 1].weight;
        CHECK(fits({u[0], u[1], w[0], w[1]}) && fits({u[2], u[3], w[2], w[3]}), isa << ": a light pair can overflow");
      }
      for (int slot = 0; slot < 4; ++slot) {
        const std::int64_t column = chunk * v.chunk + quad.column[slot] / 8;
        CHECK(quad.column[slot] % 8 == 0 && column < m.k && column < (chunk + 1) * v.chunk, isa << ": column of a quad");
        if (w[slot] == 0) continue;
        std::int8_t& at = seen[static_cast<std::size_t>(n * m.k + column)];
        CHECK(at == 0, isa << ": [" << n << ", " << column << "] in two quads");
        at = w[slot];
      }
    }
  }
  CHECK(seen == m.codes, isa << ": the quads do not hold the weights of " << m.n << " x " << m.k);
}

TEST(quads_q8_packs_every_nonzero_once_and_safely) {
  for (const LinearKernel* kernel : kernels_of("quads_q8"))
    for (const Matrix& m : matrices()) {
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      check_quads(m, *static_cast<const QuadsView*>(weight->view()), isa_name(kernel->isa));
    }
}

TEST(quads_q8_packs_the_same_bytes_again) {
  const Matrix m(130, 700, 80, 30, 5);
  for (const LinearKernel* kernel : kernels_of("quads_q8")) {
    const std::unique_ptr<Weight> a = m.pack(*kernel), b = m.pack(*kernel);
    const auto& v = *static_cast<const QuadsView*>(a->view());
    const auto& w = *static_cast<const QuadsView*>(b->view());
    CHECK(a->bytes() == b->bytes(), "sizes differ");
    CHECK(std::memcmp(v.quads, w.quads, v.begin[v.chunks * m.n] * sizeof(Quad)) == 0, "quads differ");
  }
}

}  // namespace
}  // namespace aerogel
