// csr_f32 from the arrays of a compressed-sparse-row matrix: what it accepts, what it refuses, and 32-bit columns.
#include <cmath>
#include <limits>

#include "base/aligned.h"
#include "base/error.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "linear/csr_f32/from_arrays.h"

namespace aerogel {
namespace {

using namespace testing;

struct Csr {
  std::int64_t n, k;
  std::vector<std::int64_t> indptr;
  std::vector<std::int64_t> indices;
  std::vector<float> data;

  std::unique_ptr<Weight> pack() const {
    return csr_f32_from_arrays("w", n, k, indptr.data(), indices.data(), data.data(),
                               static_cast<std::int64_t>(data.size()));
  }
};

template <class Expected>
void check_refused(const Csr& csr, const std::string& words) {
  try {
    csr.pack();
  } catch (const Expected& error) {
    CHECK(std::string(error.what()).find(words) != std::string::npos, error.what() << " does not say: " << words);
    return;
  }
  CHECK(false, "not refused: " << words);
}

// 3x4: row 0 is { 1: 2.5, 3: -1 }, row 1 empty, row 2 is { 0: 4 }.
const Csr kGood{3, 4, {0, 2, 2, 3}, {1, 3, 0}, {2.5f, -1.0f, 4.0f}};

TEST(csr_from_arrays_unpacks) {
  const std::unique_ptr<Weight> weight = kGood.pack();
  CHECK(weight->n() == 3 && weight->k() == 4 && weight->nonzeros() == 3, "shape");
  const std::vector<std::vector<float>> expected = {{0, 2.5f, 0, -1}, {0, 0, 0, 0}, {4, 0, 0, 0}};
  for (std::int64_t n = 0; n < 3; ++n) {
    std::vector<float> row(4);
    weight->row_f32(n, row.data());
    CHECK(row == expected[n], "row " << n);
  }
}

TEST(csr_from_arrays_sorts_adds_duplicates_and_drops_zeros) {
  // Row 0: columns out of order, column 2 three times; row 1: a stored zero, and duplicates that cancel.
  const Csr csr{2, 5, {0, 5, 8}, {2, 4, 2, 0, 2, 1, 3, 3}, {1, 7, 0.5f, -3, 0.25f, 0, 6, -6}};
  const std::unique_ptr<Weight> weight = csr.pack();
  CHECK(weight->nonzeros() == 3, "expected 3 nonzeros, got " << weight->nonzeros());
  std::vector<float> row(5);
  weight->row_f32(0, row.data());
  CHECK((row == std::vector<float>{-3, 0, 1.75f, 0, 7}), "row 0");
  weight->row_f32(1, row.data());
  CHECK((row == std::vector<float>{0, 0, 0, 0, 0}), "row 1");
}

TEST(csr_from_arrays_takes_32_bit_indices) {
  const std::int32_t indptr[] = {0, 1, 2}, indices[] = {1, 0};
  const float data[] = {3, 5};
  const std::unique_ptr<Weight> weight = csr_f32_from_arrays("w", 2, 2, indptr, indices, data, 2);
  float row[2];
  weight->row_f32(1, row);
  CHECK(row[0] == 5 && row[1] == 0, "row 1");
}

TEST(csr_from_arrays_takes_no_nonzeros) {
  const Csr csr{3, 4, {0, 0, 0, 0}, {}, {}};
  CHECK(csr.pack()->nonzeros() == 0, "nonzeros");
}

TEST(csr_from_arrays_refuses_what_kernels_could_not_trust) {
  const float infinity = std::numeric_limits<float>::infinity();
  Csr bad = kGood;
  bad.n = 0;
  check_refused<ShapeError>(bad, "[0, 4]");
  bad = kGood;
  bad.k = 0;
  check_refused<ShapeError>(bad, "[3, 0]");
  bad = kGood;
  bad.indptr[0] = 1;
  check_refused<DataError>(bad, "indptr starts at 1");
  bad = kGood;
  bad.indptr[0] = -1;
  check_refused<DataError>(bad, "indptr starts at -1");
  bad = kGood;
  bad.indptr[1] = 3;
  check_refused<DataError>(bad, "indptr falls from 3 to 2 at row 1");
  bad = kGood;
  bad.indptr[3] = 4;
  check_refused<DataError>(bad, "indptr ends at 4, expected the 3 values");
  bad = kGood;
  bad.indptr = {0, 2, 2, 2};
  check_refused<DataError>(bad, "indptr ends at 2, expected the 3 values");
  bad = kGood;
  bad.indices[1] = 4;
  check_refused<DataError>(bad, "column 4 in row 0, expected [0, 4)");
  bad = kGood;
  bad.indices[2] = -1;
  check_refused<DataError>(bad, "column -1 in row 2");
  bad = kGood;
  bad.data[2] = std::nanf("");
  check_refused<DataError>(bad, "the value at [2, 0]");
  bad = kGood;
  bad.data[0] = infinity;
  check_refused<DataError>(bad, "the value at [0, 1] is inf");
  // Each finite, their sum not.
  bad = Csr{1, 2, {0, 2}, {1, 1}, {3e38f, 3e38f}};
  check_refused<DataError>(bad, "the value at [0, 1] is inf");
}

// More columns than 16 bits hold, with nonzeros at both ends, on every kernel and on each of their tiles.
TEST(csr_wide_matrix) {
  const std::int64_t n = 37, k = 70001;
  Random random(7);
  Csr csr{n, k, {0}, {}, {}};
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t i = r % 9; i > 0; --i) {
      csr.indices.push_back(random.below(k));
      csr.data.push_back(random.uniform(-1, 1));
    }
    csr.indices.push_back(r % 2 ? 0 : k - 1);
    csr.data.push_back(random.uniform(1, 2));
    csr.indptr.push_back(static_cast<std::int64_t>(csr.data.size()));
  }
  const std::unique_ptr<Weight> weight = csr.pack();
  int ran = 0;
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::string(kernel.format) != "csr_f32" || !under_test(kernel.isa, kernel.features)) continue;
    ++ran;
    for (std::int64_t m : {1, 2, 5, 9, 31}) {
      std::vector<float> x(static_cast<std::size_t>(m * k)), y(static_cast<std::size_t>(m * n), 99.0f);
      for (float& value : x) value = random.uniform(-1, 1);
      AlignedBuffer<char> scratch(weight->scratch_bytes(m));
      kernel.run({weight->view(), x.data(), nullptr, k, m, 0, weight->units(), nullptr, y.data(), n, scratch.data()});
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t r = 0; r < n; ++r) {
          double sum = 0;
          for (std::int64_t i = csr.indptr[r]; i < csr.indptr[r + 1]; ++i) sum += double(csr.data[i]) * x[t * k + csr.indices[i]];
          CHECK(std::fabs(y[t * n + r] - sum) < 1e-5, isa_name(kernel.isa) << " m=" << m << " at [" << t << ", " << r << "]");
        }
    }
  }
  CHECK(ran != 0, "no kernel could run");
}

// An infinite element of x reaches the rows that have a value in its column, and those alone: padding must not turn it into NaN.
// Every element in turn, on every kernel and each of their tiles, in rows of every length modulo a step; both kinds of columns.
void check_infinite(std::int64_t k) {
  const std::int64_t n = 19, first = k - 9;
  Csr csr{n, k, {0}, {}, {}};
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t i = 0; i < r % 9; ++i) {
      csr.indices.push_back(first + i + (r % 2));
      csr.data.push_back(0.5f + static_cast<float>(i));
    }
    csr.indptr.push_back(static_cast<std::int64_t>(csr.data.size()));
  }
  const float infinity = std::numeric_limits<float>::infinity();
  const std::unique_ptr<Weight> weight = csr.pack();
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::string(kernel.format) != "csr_f32" || !under_test(kernel.isa, kernel.features)) continue;
    for (std::int64_t m : {1, 2, 5, 9, 31})
      for (std::int64_t column = first; column < k; ++column) {
        std::vector<float> x(static_cast<std::size_t>(m * k), 1.0f), y(static_cast<std::size_t>(m * n));
        for (std::int64_t t = 0; t < m; ++t) x[t * k + column] = infinity;
        AlignedBuffer<char> scratch(weight->scratch_bytes(m));
        kernel.run({weight->view(), x.data(), nullptr, k, m, 0, weight->units(), nullptr, y.data(), n, scratch.data()});
        for (std::int64_t t = 0; t < m; ++t)
          for (std::int64_t r = 0; r < n; ++r) {
            float sum = 0;
            for (std::int64_t i = csr.indptr[r]; i < csr.indptr[r + 1]; ++i) sum += csr.data[i] * x[t * k + csr.indices[i]];
            CHECK(y[t * n + r] == sum, isa_name(kernel.isa) << " k=" << k << " m=" << m << " column " << column << " at [" << t << ", "
                                                            << r << "]: expected " << sum << ", got " << y[t * n + r]);
          }
      }
  }
}

TEST(csr_infinite_x) {
  for (std::int64_t k : {12, 65535, 65536}) check_infinite(k);
}

}  // namespace
}  // namespace aerogel
