// What the gathered_q8 kernels trust: that the packer keeps every nonzero once, inside its window, and never builds a
// pair that could saturate; and the kernels on the edges of their tiles. linear.cpp, linear_q8.cpp and fuzz_q8.cpp run them too.
#include <cstdlib>
#include <cstring>
#include <utility>

#include "check.h"
#include "linear/gathered_q8/layout.h"
#include "matrix_q8.h"
#include "run_q8.h"

namespace aerogel {
namespace {

using namespace testing;

void check_vectors(const Matrix& m, const GatheredView& v, const char* isa) {
  const GatheredGeometry& g = v.geometry;
  const std::int64_t units = (m.n + v.block - 1) / v.block, half = 4 * g.rows;
  const std::int64_t index_bytes = gathered_index_bytes(g), bytes = gathered_vector_bytes(g);
  std::vector<std::int8_t> seen(m.codes.size());
  std::int64_t last = 0;
  for (std::int64_t unit = 0; unit < units; ++unit) {
    std::vector<int> used(static_cast<std::size_t>(v.block));
    for (std::int64_t p = 0; p < v.block; ++p) {
      const std::int64_t r = v.row_at[unit * v.block + p];
      CHECK(r < v.block && used[r]++ == 0, isa << ": row " << r << " stands twice");
      CHECK(v.position[unit * v.block + r] == p, isa << ": position is not the inverse of row_at");
    }
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk)
      for (std::int64_t group = 0; group < v.groups_per_block; ++group) {
        const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block + group;
        CHECK(segment[0] == last && segment[1] >= segment[0], isa << ": segments do not follow each other");
        last = segment[1];
        for (std::int64_t i = segment[0]; i < segment[1]; ++i) {
          const std::int64_t begin = chunk * g.chunk + v.window[i] * g.step;
          for (std::int64_t slot = 0; slot < half; ++slot) {
            const std::uint8_t* vector = v.vectors + i * bytes;
            const std::int64_t index = gathered_index(g, vector, slot), column = begin + index;
            const auto value = static_cast<std::int8_t>(vector[index_bytes + slot]);
            CHECK(index < g.window, isa << ": index " << index << " outside the window");
            CHECK(column < m.k && column < (chunk + 1) * g.chunk, isa << ": column " << column << " outside the chunk");
            if (value != 0) {
              const std::int64_t n = unit * v.block + v.row_at[unit * v.block + group * g.rows + slot / 4];
              CHECK(n < m.n, isa << ": a weight in a row that does not exist");
              std::int8_t& at = seen[static_cast<std::size_t>(n * m.k + column)];
              CHECK(at == 0, isa << ": [" << n << ", " << column << "] packed twice");
              at = value;
            }
            if (g.safe_pairs && slot % 2 == 1) {
              const auto other = static_cast<std::int8_t>(vector[index_bytes + slot - 1]);
              const int high = 255 * (value > 0 ? value : 0) + 255 * (other > 0 ? other : 0) + (value < 0 ? value : 0) + (other < 0 ? other : 0);
              const int low = 255 * (value < 0 ? value : 0) + 255 * (other < 0 ? other : 0) + (value > 0 ? value : 0) + (other > 0 ? other : 0);
              CHECK(high <= 32767 && low >= -32768, isa << ": pair " << int{other} << ", " << int{value} << " can saturate");
            }
          }
        }
      }
  }
  CHECK(seen == m.codes, isa << ": the vectors do not hold the weights of " << m.n << " x " << m.k);
}

TEST(gathered_q8_packs_every_nonzero_once_and_safely) {
  for (const LinearKernel* kernel : kernels_of("gathered_q8"))
    for (const Matrix& m : matrices()) {
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      const auto& view = *static_cast<const GatheredView*>(weight->view());
      check_vectors(m, view, isa_name(kernel->isa));
    }
}

TEST(gathered_q8_at_its_edges) { check_edges("gathered_q8", 1); }

// One row of 16 has `heavy` weights, the others none: the more rows are sorted together the fewer groups have to be run.
Matrix uneven(std::int64_t n, std::int64_t heavy) {
  Matrix m(n, 405, 100, 1, 1);
  for (std::int64_t r = 5; r < n; r += 16)
    for (std::int64_t k = 0; k < heavy; ++k) m.codes[r * m.k + k] = static_cast<std::int8_t>((r + k) % 127 - 127);
  return m;
}

TEST(gathered_q8_sorts_rows_in_the_cheapest_blocks) {
  // 0.85 x vectors a group + writing, for blocks of 32, 64, 128 and 256 rows:
  //   400 weights, 100 vectors: 47 24.8 15.2 13.5; 96, 24: 14.7 8.6 7.2 9.5; 24, 6: 7.1 4.8 5.2 8.5; 4, 1: 4.9 3.7 4.7 8.3
  for (const auto& [heavy, block] : {std::pair{400, 256}, std::pair{96, 128}, std::pair{24, 64}, std::pair{4, 64}})
    for (const LinearKernel* kernel : kernels_of("gathered_q8")) {
      if (kernel->isa != Isa::avx512vnni && kernel->isa != Isa::scalar) continue;
      const Matrix m = uneven(1299, heavy);
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      const auto& view = *static_cast<const GatheredView*>(weight->view());
      CHECK(view.block == block, isa_name(kernel->isa) << ": " << heavy << " weights: expected blocks of " << block << " rows, got " << view.block);
      check_vectors(m, view, isa_name(kernel->isa));
      if (!under_test(kernel->isa, kernel->features)) continue;
      for (std::int64_t tokens : {1, 3, 16, 31}) check_run(*kernel, *weight, m, tokens);
    }
  // Few rows stay in at least 6 blocks.
  const LinearKernel* const kernel = find_linear("gathered_q8", Isa::scalar);
  const std::unique_ptr<Weight> small = uneven(384, 400).pack(*kernel), smallest = uneven(190, 400).pack(*kernel);
  CHECK(static_cast<const GatheredView*>(small->view())->block == 64, "384 rows");
  CHECK(static_cast<const GatheredView*>(smallest->view())->block == 32, "190 rows");
}

TEST(gathered_q8_packs_the_same_bytes_again) {
  const Matrix m(130, 700, 80, 30, 5);
  for (const LinearKernel* kernel : kernels_of("gathered_q8")) {
    const std::unique_ptr<Weight> a = m.pack(*kernel), b = m.pack(*kernel);
    const auto& v = *static_cast<const GatheredView*>(a->view());
    const auto& w = *static_cast<const GatheredView*>(b->view());
    const std::int64_t vectors = v.segment[a->units() * v.chunks * v.groups_per_block];
    CHECK(a->bytes() == b->bytes() && vectors == w.segment[b->units() * w.chunks * w.groups_per_block], "sizes differ");
    CHECK(std::memcmp(v.vectors, w.vectors, static_cast<std::size_t>(vectors * gathered_vector_bytes(v.geometry))) == 0, "vectors differ");
    CHECK(std::memcmp(v.window, w.window, static_cast<std::size_t>(vectors) * 2) == 0, "windows differ");
  }
}

}  // namespace
}  // namespace aerogel
