// sampled_product: within the rounding of its sums, and nothing beside its places.
#include "guarded.h"
#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

struct Pattern {
  std::vector<std::int32_t> begin{0}, column;
};

// Rows with about so many of 1,000 columns kept, now and then none or all of them.
Pattern random_pattern(Random& random, std::int64_t rows, std::int64_t k, int thousandth) {
  Pattern pattern;
  for (std::int64_t n = 0; n < rows; ++n) {
    const int kept = n % 7 == 3 ? 0 : n % 11 == 5 ? 1000 : thousandth;
    for (std::int64_t c = 0; c < k; ++c)
      if (static_cast<int>(random.below(1000)) < kept) pattern.column.push_back(static_cast<std::int32_t>(c));
    pattern.begin.push_back(static_cast<std::int32_t>(pattern.column.size()));
  }
  return pattern;
}

void check_product(Isa isa, Random& random, std::int64_t tokens, std::int64_t rows, std::int64_t k, const Pattern& pattern) {
  const std::int64_t ldx = k + 3, ldy = rows + 1;
  const std::vector<float> x = random_floats(random, tokens * ldx + 1), y = random_floats(random, tokens * ldy + 1);
  const std::size_t kept = pattern.column.size();
  Guarded<float> out(kept);
  Guarded<std::int32_t> column(kept);
  std::copy(pattern.column.begin(), pattern.column.end(), column.data());
  AlignedBuffer<std::uint8_t> scratch(sampled_scratch(k, rows));
  for (std::size_t i = 0; i < kept; ++i) out[i] = std::nanf("");
  ops_for(isa).sampled_product({x.data(), ldx, y.data(), ldy, tokens, k, rows, pattern.begin.data(), column.data(), out.data(), scratch.data()});
  for (std::int64_t n = 0; n < rows; ++n)
    for (std::int32_t i = pattern.begin[n]; i < pattern.begin[n + 1]; ++i) {
      double sum = 0, size = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const double product = static_cast<double>(y[t * ldy + n]) * x[t * ldx + pattern.column[i]];
        sum += product;
        size += std::fabs(product);
      }
      CHECK(std::fabs(out[i] - sum) <= kEps * static_cast<double>(tokens + 1) * size,
            "sampled_product " << isa_name(isa) << " " << tokens << " x " << rows << " x " << k << " at row " << n << " column "
                               << pattern.column[i] << ": " << out[i] << ", expected " << sum);
    }
}

TEST(ops_sampled_product) {
  const std::int64_t shapes[][3] = {{1, 1, 1},   {3, 2, 5},    {8, 9, 7},     {63, 5, 191},  {64, 17, 192}, {65, 12, 193},
                                    {127, 3, 96}, {128, 1, 97}, {130, 23, 400}, {200, 40, 33}, {5, 30, 1000}, {0, 3, 4}};
  Random random(3);
  for (Isa isa : tested_isas())
    for (const auto& [tokens, rows, k] : shapes)
      for (int thousandth : {30, 200, 600}) check_product(isa, random, tokens, rows, k, random_pattern(random, rows, k, thousandth));
}

TEST(ops_sampled_product_columns_in_any_order) {
  Random random(4);
  const Pattern pattern{{0, 6, 6, 9}, {400, 3, 250, 3, 0, 399, 200, 100, 300}};
  for (Isa isa : tested_isas()) check_product(isa, random, 70, 3, 401, pattern);
}

// An infinity in x reaches the places of its column, a NaN in y those of its row; neither what lies beside them.
TEST(ops_sampled_product_poison) {
  Random random(5);
  const std::int64_t tokens = 66, rows = 4, k = 9;
  for (Isa isa : tested_isas()) {
    std::vector<float> x = random_floats(random, tokens * k), y = random_floats(random, tokens * rows, 0.5f, 2.0f), out(3 * rows);
    x[65 * k + 4] = INFINITY;
    y[64 * rows + 2] = std::nanf("");
    const std::vector<std::int32_t> begin = {0, 3, 6, 9, 12}, column = {2, 4, 8, 2, 4, 8, 2, 4, 8, 2, 4, 8};
    AlignedBuffer<std::uint8_t> scratch(sampled_scratch(k, rows));
    ops_for(isa).sampled_product({x.data(), k, y.data(), rows, tokens, k, rows, begin.data(), column.data(), out.data(), scratch.data()});
    for (int i = 0; i < 12; ++i) {
      const bool right = i / 3 == 2 ? std::isnan(out[i]) : i % 3 == 1 ? std::isinf(out[i]) : std::isfinite(out[i]);
      CHECK(right, "sampled_product " << isa_name(isa) << " place " << i << ": " << out[i]);
    }
  }
}

}  // namespace
}  // namespace aerogel
