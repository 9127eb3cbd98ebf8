// int8 matrices for the tests of the sparse formats, and the kernels of a format.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "kernels/table.h"

namespace aerogel::testing {

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

// The rows of each set take the mask of its first row.
inline Matrix share_masks(Matrix m, std::int64_t rows) {
  for (std::int64_t n = 0; n < m.n; ++n)
    for (std::int64_t k = 0; k < m.k; ++k) {
      std::int8_t& code = m.codes[n * m.k + k];
      const bool kept = m.codes[n / rows * rows * m.k + k] != 0;
      if (n % rows != 0) code = static_cast<std::int8_t>(!kept ? 0 : code == 0 ? 1 + (n + 3 * k) % 127 : code);
    }
  return m;
}

// Every kernel of the table, or those of one format; also those this CPU cannot run.
inline std::vector<const LinearKernel*> kernels_of(const char* format) {
  std::vector<const LinearKernel*> found;
  for (const LinearKernel& kernel : linear_kernels())
    if (std::strcmp(kernel.format, format) == 0) found.push_back(&kernel);
  return found;
}

// Of awkward shapes, from full to empty, the largest of more than one chunk of any format.
inline std::vector<Matrix> matrices() {
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

}  // namespace aerogel::testing
