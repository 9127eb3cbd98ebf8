// What the gathered_q8 kernels trust: that the packer keeps every nonzero once, inside its window, and never builds a
// pair that could saturate. Shapes that need more than one chunk are run too; linear.cpp covers the others.
#include <cstdlib>
#include <cstring>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "linear/gathered_q8/layout.h"

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
    if (std::strcmp(kernel.format, "gathered_q8") == 0) found.push_back(&kernel);
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
  for (const LinearKernel* kernel : kernels())
    for (const Matrix& m : matrices()) {
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      const auto& view = *static_cast<const GatheredView*>(weight->view());
      check_vectors(m, view, isa_name(kernel->isa));
    }
}

TEST(gathered_q8_packs_the_same_bytes_again) {
  const Matrix m(130, 700, 80, 30, 5);
  for (const LinearKernel* kernel : kernels()) {
    const std::unique_ptr<Weight> a = m.pack(*kernel), b = m.pack(*kernel);
    const auto& v = *static_cast<const GatheredView*>(a->view());
    const auto& w = *static_cast<const GatheredView*>(b->view());
    const std::int64_t vectors = v.segment[a->units() * v.chunks * v.groups_per_block];
    CHECK(a->bytes() == b->bytes() && vectors == w.segment[b->units() * w.chunks * w.groups_per_block], "sizes differ");
    CHECK(std::memcmp(v.vectors, w.vectors, static_cast<std::size_t>(vectors * gathered_vector_bytes(v.geometry))) == 0, "vectors differ");
    CHECK(std::memcmp(v.window, w.window, static_cast<std::size_t>(vectors) * 2) == 0, "windows differ");
  }
}

TEST(gathered_q8_refuses_float_weights) {
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
TEST(gathered_q8_many_columns) {
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
        if (!under_test(kernel->isa, kernel->features) || (emulated(kernel->isa) && k > 2200)) continue;
        const std::unique_ptr<Weight> weight = m.pack(*kernel);
        for (std::int64_t count : {1, 3, 9, 32, 68}) {
          if ((kernel->isa == Isa::scalar && count > 3) || (emulated(kernel->isa) && count > 3)) continue;
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
