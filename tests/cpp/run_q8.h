// Runs one int8 kernel on one matrix against plain loops over its nonzeros, bit for bit, in memory that ends at a guarded page.
#pragma once

#include "base/aligned.h"
#include "guarded.h"
#include "isas.h"
#include "matrix_q8.h"

namespace aerogel::testing {

inline void check_run(const LinearKernel& kernel, const Weight& weight, const Matrix& of, std::int64_t tokens) {
  Random random(static_cast<std::uint64_t>(tokens * 7919 + of.n));
  const std::int64_t ldx = round_up<std::int64_t>(of.k, 64);
  Guarded<std::int8_t> x(static_cast<std::size_t>(tokens * ldx));
  Guarded<float> x_scale(static_cast<std::size_t>(tokens)), bias(static_cast<std::size_t>(of.n)), y(static_cast<std::size_t>(tokens * of.n));
  Guarded<std::uint8_t> scratch(round_up<std::size_t>(weight.scratch_bytes(tokens), 64));
  for (std::int64_t t = 0; t < tokens; ++t) {
    x_scale[t] = random.uniform(0.0f, 0.1f);
    for (std::int64_t k = 0; k < of.k; ++k)
      x[t * ldx + k] = static_cast<std::int8_t>(t % 3 == 1 ? (random.below(2) ? 127 : -127) : random.below(255) - 127);
  }
  for (std::int64_t n = 0; n < of.n; ++n) bias[n] = random.uniform(-1.0f, 1.0f);
  const bool with_bias = tokens % 2 == 1;
  kernel.run({weight.view(), x.data(), x_scale.data(), ldx, tokens, 0, weight.units(), with_bias ? bias.data() : nullptr, y.data(), of.n, scratch.data()});
  for (std::int64_t n = 0; n < of.n; ++n) {
    std::vector<std::int64_t> columns;
    for (std::int64_t k = 0; k < of.k; ++k)
      if (of.codes[n * of.k + k] != 0) columns.push_back(k);
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::int32_t sum = 0;
      for (const std::int64_t k : columns) sum += x[t * ldx + k] * of.codes[n * of.k + k];
      const float factor = x_scale[t] * of.scale[n];
      float expected = static_cast<float>(sum) * factor;
      if (with_bias) expected = expected + bias[n];
      CHECK(std::memcmp(&y[t * of.n + n], &expected, sizeof(float)) == 0,
            kernel.format << "/" << isa_name(kernel.isa) << " " << of.n << " x " << of.k << ", " << tokens << " tokens at [" << t << ", " << n
                          << "]: expected " << expected << ", got " << y[t * of.n + n]);
    }
  }
}

// Every kernel of a format that runs here, on edges of its blocks of rows, chunks and windows of columns, tiles of tokens and sets of units.
inline void check_edges(const char* format, std::int64_t mask_rows) {
  struct Shape {
    std::int64_t n, k;
    int percent_zero;
    std::vector<std::int64_t> tokens;
  };
  std::vector<std::int64_t> counts;
  for (std::int64_t t = 1; t <= 40; ++t) counts.push_back(t);
  const Shape shapes[] = {{50, 100, 80, counts}, {33, 33, 50, {1, 16, 128}}, {31, 31, 0, {17}},  {65, 96, 90, {16}},     {97, 97, 100, {19}},
                          {40, 769, 90, {18, 31}}, {17, 1601, 95, {16, 3}}, {1023, 780, 98, {17}}, {1024, 780, 98, {16}}, {1025, 780, 98, {33, 1}}};
  for (const LinearKernel* kernel : kernels_of(format)) {
    if (!under_test(kernel->isa, kernel->features) || emulated(kernel->isa)) continue;
    std::uint64_t seed = 100;
    for (const Shape& shape : shapes) {
      const Matrix m = share_masks(Matrix(shape.n, shape.k, shape.percent_zero, 1, ++seed), mask_rows);
      const std::unique_ptr<Weight> weight = m.pack(*kernel);
      for (const std::int64_t tokens : shape.tokens) check_run(*kernel, *weight, m, tokens);
    }
  }
}

}  // namespace aerogel::testing
