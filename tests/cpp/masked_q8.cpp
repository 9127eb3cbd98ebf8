// What is particular to masked_q8: the bits of the mask, the exact size, and sums bit for bit on random shapes and patterns, with
// empty and full rows and panels, at every sparsity. linear.cpp runs the cases that all formats share.
#include <cstring>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "linear/masked_q8/layout.h"

namespace aerogel {
namespace {

using namespace testing;

std::vector<const LinearKernel*> kernels() {
  std::vector<const LinearKernel*> found;
  for (const LinearKernel& kernel : linear_kernels())
    if (std::strcmp(kernel.format, "masked_q8") == 0) found.push_back(&kernel);
  return found;
}

DenseQ8Panel panel_of(Isa isa) {
  return isa == Isa::avx512vnni ? kDenseQ8Avx512 : isa == Isa::avx2 ? kDenseQ8Avx2 : isa == Isa::neon ? kDenseQ8Neon : kDenseQ8Scalar;
}

struct Matrix {
  std::int64_t n, k;
  std::vector<std::int8_t> codes;
  std::vector<float> scale;

  Matrix(std::int64_t rows, std::int64_t columns)
      : n(rows), k(columns), codes(static_cast<std::size_t>(rows * columns)), scale(static_cast<std::size_t>(rows), 0.5f) {}

  std::int64_t nonzeros() const {
    std::int64_t count = 0;
    for (std::int8_t code : codes) count += code != 0;
    return count;
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

std::int8_t code(Random& random, bool extreme) {
  const std::int64_t magnitude = extreme ? 127 : 1 + random.below(127);
  return static_cast<std::int8_t>(random.below(2) == 0 ? -magnitude : magnitude);
}

// `percent_zero` of the weights at random; then some rows empty, some full, some with a run of nonzeros at either end.
Matrix random_matrix(std::int64_t n, std::int64_t k, int percent_zero, bool odd_rows, Random& random) {
  Matrix m(n, k);
  const bool extreme = random.below(4) == 0;
  for (std::int64_t r = 0; r < n; ++r) {
    const std::int64_t kind = odd_rows ? random.below(8) : 8, run = 1 + random.below(k);
    for (std::int64_t c = 0; c < k; ++c) {
      bool there = random.below(100) >= percent_zero;
      if (kind == 0) there = false;
      if (kind == 1) there = true;
      if (kind == 2) there = c < run;
      if (kind == 3) there = c >= k - run;
      if (there) m.codes[static_cast<std::size_t>(r * k + c)] = code(random, extreme);
    }
  }
  return m;
}

// Those that this CPU, or the one that is emulated, can run.
std::vector<const LinearKernel*> runnable() {
  std::vector<const LinearKernel*> found;
  for (const LinearKernel* kernel : kernels())
    if (under_test(kernel->isa, kernel->features)) found.push_back(kernel);
  if (found.empty()) skip("AEROGEL_ISA has no masked_q8 kernel that this CPU can run");
  return found;
}

// One call of `tokens` tokens against plain loops.
void check_sums(const LinearKernel& kernel, const Weight& weight, const Matrix& m, std::int64_t tokens, Random& random) {
  const std::int64_t ldx = round_up<std::int64_t>(m.k, 64);
  auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(tokens * ldx));
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t c = 0; c < m.k; ++c)
      x[t * ldx + c] = t == 0 ? static_cast<std::int8_t>(m.codes[c] < 0 ? -127 : 127)  // the largest sum that row 0 can have
                              : static_cast<std::int8_t>(random.below(255) - 127);
  const std::vector<float> x_scale(static_cast<std::size_t>(tokens), 0.25f);
  std::vector<float> y(static_cast<std::size_t>(tokens * m.n));
  AlignedBuffer<std::uint8_t> scratch(weight.scratch_bytes(tokens));
  kernel.run({weight.view(), x.data(), x_scale.data(), ldx, tokens, 0, weight.units(), nullptr, y.data(), m.n, scratch.data()});
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t n = 0; n < m.n; ++n) {
      std::int32_t sum = 0;
      for (std::int64_t c = 0; c < m.k; ++c) sum += x[t * ldx + c] * m.codes[n * m.k + c];
      CHECK(y[t * m.n + n] == static_cast<float>(sum) * (0.25f * 0.5f),
            isa_name(kernel.isa) << " n=" << m.n << " k=" << m.k << " tokens=" << tokens << " nonzeros=" << m.nonzeros() << " at ["
                                 << t << ", " << n << "]: the sum is " << sum);
    }
}

TEST(masked_q8_layout) {
  Random random(1);
  for (const LinearKernel* kernel : kernels())
    for (std::int64_t n : {1, 4, 16, 17, 32, 70})
      for (std::int64_t k : {1, 15, 16, 65, 200}) {
        const Matrix m = random_matrix(n, k, 60, true, random);
        const std::unique_ptr<Weight> weight = m.pack(*kernel);
        const auto& v = *static_cast<const MaskedQ8View*>(weight->view());
        const DenseQ8Panel p = panel_of(kernel->isa);
        const std::int64_t words = p.rows * v.k_padded / 64, units = weight->units();
        CHECK(v.n == n && v.k == k && v.k_padded == round_up<std::int64_t>(k, 16) && units == (n + p.rows - 1) / p.rows, "shape");
        CHECK(reinterpret_cast<std::uintptr_t>(v.mask) % 64 == 0, "alignment of the mask");
        std::int64_t values = 0;
        for (std::int64_t unit = 0; unit < units; ++unit) {
          CHECK(v.panel_begin[unit] == values, isa_name(kernel->isa) << ": first value of panel " << unit);
          for (std::int64_t b = 0; b < words * 64; ++b) {
            const std::int64_t row = unit * p.rows + b / p.group % p.rows, column = b / p.group / p.rows * p.group + b % p.group;
            const bool there = row < n && column < k && m.codes[row * k + column] != 0;
            CHECK((v.mask[unit * words + b / 64] >> (b % 64) & 1) == (there ? 1u : 0u),
                  isa_name(kernel->isa) << ": bit " << b << " of panel " << unit);
            values += there;
          }
        }
        CHECK(v.panel_begin[units] == values && values == m.nonzeros(), isa_name(kernel->isa) << ": number of values");
      }
}

// 1/8 byte a weight and 1 byte a nonzero, and 9 bytes a panel, 4 bytes a row and 136 bytes once.
TEST(masked_q8_size) {
  Random random(2);
  for (const LinearKernel* kernel : kernels()) {
    const DenseQ8Panel p = panel_of(kernel->isa);
    for (int percent_zero : {0, 50, 80, 100})
      for (std::int64_t n : {1, 64, 100})
        for (std::int64_t k : {16, 128, 333}) {
          const Matrix m = random_matrix(n, k, percent_zero, false, random);
          const std::int64_t rows = round_up(n, p.rows);
          const std::int64_t expected = rows * round_up<std::int64_t>(k, 16) / 8 + m.nonzeros() + rows / p.rows * 9 + 8 + rows * 4 + 128;
          const auto bytes = static_cast<std::int64_t>(m.pack(*kernel)->bytes());
          CHECK(bytes == expected, isa_name(kernel->isa) << " n=" << n << " k=" << k << " nonzeros=" << m.nonzeros() << ": expected "
                                                         << expected << " bytes, got " << bytes);
        }
  }
}

TEST(masked_q8_random_shapes_and_patterns) {
  Random random(3);
  for (int round = 0; round < 120; ++round) {
    const int zeros[] = {0, 5, 30, 50, 70, 80, 90, 97, 100};
    const Matrix m = random_matrix(1 + random.below(100), 1 + random.below(round % 8 == 0 ? 1500 : 150), zeros[round % 9], random.below(2) == 0, random);
    const std::int64_t tokens = 1 + random.below(round % 2 == 0 ? 8 : 40);
    for (const LinearKernel* kernel : runnable()) check_sums(*kernel, *m.pack(*kernel), m, tokens, random);
  }
}

// Every number of tokens around the tiles, and blocks of tokens that each read the panels again.
TEST(masked_q8_token_counts) {
  Random random(4);
  const Matrix m = random_matrix(35, 600, 70, true, random);
  for (const LinearKernel* kernel : runnable()) {
    const std::unique_ptr<Weight> weight = m.pack(*kernel);
    for (std::int64_t tokens = 1; tokens <= 27; ++tokens) check_sums(*kernel, *weight, m, tokens, random);
    for (std::int64_t tokens : {95, 96, 97, 200}) check_sums(*kernel, *weight, m, tokens, random);
  }
}

// The largest sums that any K of the contract can have, in several chunks.
TEST(masked_q8_extremes) {
  Random random(5);
  for (std::int64_t k : {511, 512, 513, 768, 769, 8192, 133144})
    for (bool dense : {true, false}) {
      Matrix m(3, k);
      for (std::size_t i = 0; i < m.codes.size(); ++i)
        m.codes[i] = static_cast<std::int8_t>(dense || random.below(5) == 0 ? (static_cast<std::int64_t>(i) < k ? 127 : code(random, true)) : 0);
      for (const LinearKernel* kernel : runnable()) {
        const std::unique_ptr<Weight> weight = m.pack(*kernel);
        for (std::int64_t tokens : {1, 7, 13}) check_sums(*kernel, *weight, m, tokens, random);
      }
    }
}

}  // namespace
}  // namespace aerogel
