// What the blocks_q8 kernels trust: that the packer keeps every block with a nonzero once, and no other. Shapes that need
// more than one chunk are run too; linear.cpp and fuzz_q8.cpp cover the others.
#include <cstring>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "linear/blocks_q8/layout.h"

namespace aerogel {
namespace {

using namespace testing;

struct Matrix {
  std::int64_t n, k;
  std::vector<std::int8_t> codes;
  std::vector<float> scale;

  // magnitudes from `least` to 127: large ones are hard to pair
  Matrix(std::int64_t rows, std::int64_t columns, int percent_zero, int least, std::uint64_t seed)
      : n(rows), k(columns), codes(static_cast<std::size_t>(rows * columns)), scale(static_cast<std::size_t>(rows), 0.5f) {
    Random random(seed);
    for (std::int8_t& code : codes) {
      const auto magnitude = static_cast<int>(least + random.below(128 - least));
      const int value = random.below(3) == 0 ? -magnitude : magnitude;
      code = static_cast<std::int8_t>(random.below(100) < percent_zero ? 0 : value);
    }
  }

  std::unique_ptr<Weight> pack(const LinearKernel& kernel) const {
    WeightSource source(k);
    WeightSource::Part part;
    part.rows = n;
    part.q8 = codes.data();
    part.scale = scale.data();
    source.add("w", part, n * k);
    return kernel.pack(source);
  }
};

std::vector<const LinearKernel*> kernels() {
  std::vector<const LinearKernel*> found;
  for (const LinearKernel& kernel : linear_kernels())
    if (std::strcmp(kernel.format, "blocks_q8") == 0) found.push_back(&kernel);
  return found;
}

std::vector<Matrix> matrices() {
  std::vector<Matrix> all;
  std::uint64_t seed = 1;
  for (int zero : {0, 50, 80, 95, 100})
    for (int least : {1, 64, 127}) {
      all.emplace_back(37, 200, zero, least, ++seed);
      all.emplace_back(8, 17, zero, least, ++seed);
      all.emplace_back(70, 1, zero, least, ++seed);
    }
  all.emplace_back(1030, 70, 80, 40, ++seed);
  all.emplace_back(5, 20000, 90, 40, ++seed);
  return all;
}

TEST(blocks_q8_packs_every_nonzero_block_once) {
  for (const LinearKernel* kernel : kernels())
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

TEST(blocks_q8_refuses_float_weights) {
  const float values[4] = {1, 2, 3, 4};
  WeightSource source(4);
  WeightSource::Part part;
  part.rows = 1;
  part.f32 = values;
  source.add("w", part, 4);
  for (const LinearKernel* kernel : kernels()) {
    bool refused = false;
    try {
      kernel->pack(source);
    } catch (const std::exception&) {
      refused = true;
    }
    CHECK(refused, isa_name(kernel->isa) << " packed float weights");
  }
}

// All of it at the extremes, with so many columns that there are several chunks.
TEST(blocks_q8_many_columns) {
  for (std::int64_t k : {8192, 8193, 33000, 70001})
    for (int percent_zero : {0, 97}) {
      const Matrix m(9, k, percent_zero, 127, static_cast<std::uint64_t>(k));
      const std::int64_t ldx = round_up<std::int64_t>(k, 64), tokens = 68;
      auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(tokens * ldx));
      Random random(3);
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t i = 0; i < k; ++i)
          x[t * ldx + i] = static_cast<std::int8_t>(t == 0 ? 127 : t == 1 ? -127 : t == 2 ? (m.codes[i] < 0 ? -127 : 127) : random.below(255) - 127);
      const std::vector<float> x_scale(static_cast<std::size_t>(tokens), 0.25f);
      for (const LinearKernel* kernel : kernels()) {
        if (!under_test(kernel->isa, kernel->features)) continue;
        const std::unique_ptr<Weight> weight = m.pack(*kernel);
        for (std::int64_t count : {1, 3, 9, 32, 68}) {
          if (kernel->isa == Isa::scalar && count > 3) continue;
          AlignedBuffer<std::uint8_t> scratch(weight->scratch_bytes(count));
          std::vector<float> y(static_cast<std::size_t>(count * m.n));
          kernel->run({weight->view(), x.data(), x_scale.data(), ldx, count, 0, weight->units(), nullptr, y.data(), m.n, scratch.data()});
          for (std::int64_t t = 0; t < count; ++t)
            for (std::int64_t n = 0; n < m.n; ++n) {
              std::int32_t sum = 0;
              for (std::int64_t i = 0; i < k; ++i) sum += x[t * ldx + i] * m.codes[n * k + i];
              CHECK(y[t * m.n + n] == static_cast<float>(sum) * (0.25f * 0.5f),
                    isa_name(kernel->isa) << " k=" << k << " tokens=" << count << " at [" << t << ", " << n << "]");
            }
        }
      }
    }
}

}  // namespace
}  // namespace aerogel
