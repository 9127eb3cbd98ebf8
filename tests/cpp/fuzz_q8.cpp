// Every int8 kernel of the table against plain loops, bit for bit, on random shapes and patterns of zeros: 1x4, 2x1 and
// 4x1 blocks, single columns, empty and full rows, all weights of one sign, the largest magnitudes.
#include <cstdlib>
#include <utility>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"

namespace aerogel {
namespace {

using namespace testing;

struct Problem {
  std::int64_t m, n, k, ldx;
  std::vector<std::int8_t> w;
  AlignedBuffer<std::int8_t> x;
  std::vector<float> w_scale, x_scale, bias;

  explicit Problem(std::uint64_t seed) {
    Random random(seed);
    static constexpr std::int64_t kWidths[] = {1, 3, 4, 5, 63, 64, 66, 130, 200, 511, 768, 770, 1540};
    m = 1 + random.below(random.below(4) == 0 ? 140 : 34);
    n = 1 + random.below(random.below(4) == 0 ? 150 : 40);
    k = random.below(2) == 0 ? 1 + random.below(300) : kWidths[random.below(13)];
    ldx = round_up<std::int64_t>(k, 64);
    w.resize(static_cast<std::size_t>(n * k));
    const int pattern = static_cast<int>(random.below(7)), sign = static_cast<int>(random.below(3));
    const std::int64_t least = random.below(3) == 0 ? 127 : 1, keep = 1 + random.below(60);
    for (std::int64_t r = 0; r < n; ++r) {
      const std::int64_t row_keep = pattern == 1 ? (random.below(3) == 0 ? 100 : 0) : keep;
      bool kept = false;
      for (std::int64_t c = 0; c < k; ++c) {
        if (pattern != 2 || c % 4 == 0) kept = random.below(100) < row_keep;
        if (pattern == 3) kept = c == k - 1;
        if (pattern == 4) kept = (c + r) % 16 < 2;
        if (pattern > 4 && r % (pattern == 5 ? 2 : 4) != 0) kept = w[(r - 1) * k + c] != 0;
        const auto magnitude = static_cast<int>(least + random.below(128 - least));
        w[r * k + c] = static_cast<std::int8_t>(!kept ? 0 : sign == 0 || (sign == 1 && random.below(2) == 0) ? magnitude : -magnitude);
      }
    }
    x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(m * ldx));
    for (std::int64_t t = 0; t < m; ++t)
      for (std::int64_t c = 0; c < k; ++c)
        x[t * ldx + c] = static_cast<std::int8_t>(t % 4 == 1 ? 127 : t % 4 == 2 ? -127 : random.below(255) - 127);
    w_scale.resize(n), bias.resize(n), x_scale.resize(m);
    for (float& s : w_scale) s = random.uniform(0.0f, 0.1f);
    for (float& s : x_scale) s = random.uniform(0.0f, 0.1f);
    for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
  }

  std::vector<float> expected() const {
    std::vector<float> y(static_cast<std::size_t>(m * n));
    for (std::int64_t t = 0; t < m; ++t)
      for (std::int64_t r = 0; r < n; ++r) {
        std::int32_t sum = 0;
        for (std::int64_t c = 0; c < k; ++c) sum += static_cast<std::int32_t>(x[t * ldx + c]) * w[r * k + c];
        const float factor = x_scale[t] * w_scale[r];
        const float product = static_cast<float>(sum) * factor;
        y[t * n + r] = product + bias[r];
      }
    return y;
  }
};

TEST(fuzz_q8) {
  // An emulator takes a hundred times as long.
  const std::uint64_t problems = std::getenv("AEROGEL_ISA") == nullptr ? 400 : 40;
  for (std::uint64_t seed = 1; seed <= problems; ++seed) {
    const Problem p(seed);
    const std::vector<float> expected = p.expected();
    for (const LinearKernel& kernel : linear_kernels()) {
      if (!holds_int8(kernel) || !under_test(kernel.isa, kernel.features)) continue;
      if (emulated(kernel.isa) && seed % 10 != 0) continue;
      WeightSource source(p.k);
      WeightSource::Part part;
      part.rows = p.n;
      part.q8 = p.w.data();
      part.scale = p.w_scale.data();
      source.add("w", part, p.n * p.k);
      const std::unique_ptr<Weight> weight = kernel.pack(source);
      AlignedBuffer<std::uint8_t> scratch(weight->scratch_bytes(p.m) + 64);
      std::vector<float> y(expected.size(), -12345.0f);
      const std::int64_t middle = weight->units() / 2;
      for (const auto& [begin, end] : {std::pair{std::int64_t{0}, middle}, std::pair{middle, weight->units()}})
        if (begin != end)
          kernel.run({weight->view(), p.x.data(), p.x_scale.data(), p.ldx, p.m, begin, end, p.bias.data(), y.data(), p.n, scratch.data()});
      for (std::size_t i = 0; i < y.size(); ++i)
        CHECK(y[i] == expected[i], kernel.format << "/" << isa_name(kernel.isa) << " problem " << seed << ": m=" << p.m << " n=" << p.n
                                                 << " k=" << p.k << " at [" << i / p.n << ", " << i % p.n << "]: expected "
                                                 << expected[i] << ", got " << y[i]);
    }
  }
}

}  // namespace
}  // namespace aerogel
