// What every int8 format must do alike: refuse floats, and keep sums exact over so many columns that there are several chunks.
// linear.cpp runs the shapes of every day, fuzz_q8.cpp random ones.
#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "matrix_q8.h"

namespace aerogel {
namespace {

using namespace testing;

TEST(q8_refuses_float_weights) {
  const float values[4] = {1, 2, 3, 4};
  WeightSource source(4);
  WeightSource::Part part;
  part.rows = 1;
  part.f32 = values;
  source.add("w", part, 4);
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!kernel.quantized_x) continue;
    bool refused = false;
    try {
      kernel.pack(source);
    } catch (const std::exception&) {
      refused = true;
    }
    CHECK(refused, kernel.format << " " << isa_name(kernel.isa) << " packed float weights");
  }
}

// All of it at the extremes, with so many columns that there are several chunks.
TEST(q8_many_columns) {
  for (std::int64_t k : {8192, 8193, 33000, 70001})
    for (int percent_zero : {0, 97}) {
      const Matrix m(9, k, percent_zero, 127, static_cast<std::uint64_t>(k));
      const std::int64_t ldx = round_up<std::int64_t>(k, 64), tokens = 68;
      auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(tokens * ldx));
      Random random(3);
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t i = 0; i < k; ++i)
          x[t * ldx + i] = static_cast<std::int8_t>(t == 0 ? 127 : t == 1 ? -127 : t == 2 ? (m.codes[i] < 0 ? -127 : 127) : random.below(255) - 127);
      std::vector<float> expected(static_cast<std::size_t>(tokens * m.n));
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t n = 0; n < m.n; ++n) {
          std::int32_t sum = 0;
          for (std::int64_t i = 0; i < k; ++i) sum += x[t * ldx + i] * m.codes[n * k + i];
          expected[static_cast<std::size_t>(t * m.n + n)] = static_cast<float>(sum) * (0.25f * 0.5f);
        }
      const std::vector<float> x_scale(static_cast<std::size_t>(tokens), 0.25f);
      for (const LinearKernel& kernel : linear_kernels()) {
        if (!holds_int8(kernel) || !under_test(kernel.isa, kernel.features) || (emulated(kernel.isa) && k > 8193)) continue;
        const std::unique_ptr<Weight> weight = m.pack(kernel);
        for (std::int64_t count : {1, 3, 9, 20, 32, 68}) {
          if ((kernel.isa == Isa::scalar && count > 3) || (emulated(kernel.isa) && count > 9)) continue;
          AlignedBuffer<std::uint8_t> scratch(weight->scratch_bytes(count));
          std::vector<float> y(static_cast<std::size_t>(count * m.n));
          kernel.run({weight->view(), x.data(), x_scale.data(), ldx, count, 0, weight->units(), nullptr, y.data(), m.n, scratch.data()});
          for (std::size_t i = 0; i < y.size(); ++i)
            CHECK(y[i] == expected[i], kernel.format << " " << isa_name(kernel.isa) << " k=" << k << " tokens=" << count << " at " << i);
        }
      }
    }
}

}  // namespace
}  // namespace aerogel
