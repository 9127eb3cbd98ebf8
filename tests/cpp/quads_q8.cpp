// What the quads_q8 kernels trust: that the packer keeps every nonzero once and never lets a sum of 16 bits
// overflow. Shapes that need more than one chunk are run too; linear.cpp covers the others.
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "linear/quads_q8/layout.h"

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
    if (std::strcmp(kernel.format, "quads_q8") == 0) found.push_back(&kernel);
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
    const std::int64_t chunk = list / m.n, n = list % m.n;
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
  for (const LinearKernel* kernel : kernels())
    for (const Matrix& m : matrices()) {
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      check_quads(m, *static_cast<const QuadsView*>(weight->view()), isa_name(kernel->isa));
    }
}

TEST(quads_q8_packs_the_same_bytes_again) {
  const Matrix m(130, 700, 80, 30, 5);
  for (const LinearKernel* kernel : kernels()) {
    const std::unique_ptr<Weight> a = m.pack(*kernel), b = m.pack(*kernel);
    const auto& v = *static_cast<const QuadsView*>(a->view());
    const auto& w = *static_cast<const QuadsView*>(b->view());
    CHECK(a->bytes() == b->bytes(), "sizes differ");
    CHECK(std::memcmp(v.quads, w.quads, v.begin[v.chunks * m.n] * sizeof(Quad)) == 0, "quads differ");
  }
}

TEST(quads_q8_refuses_float_weights) {
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
TEST(quads_q8_many_columns) {
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
