#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "linear/csr_f32/from_arrays.h"
#include "linear/csr_f32/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

using namespace csr_f32;

std::int64_t padded(std::int64_t nonzeros) { return round_up(nonzeros, kStep); }

class CsrF32 final : public Weight {
 public:
  // Room for `padded_nonzeros`, the padded lengths of all rows. Rows are appended in order; finish() ends it.
  CsrF32(std::int64_t n, std::int64_t k, std::int64_t nonzeros, std::int64_t padded_nonzeros)
      : Weight(n, k, nonzeros),
        row_begin_(static_cast<std::size_t>(n) + 1),
        values_(static_cast<std::size_t>(padded_nonzeros)),
        columns16_(k <= kMost16 ? static_cast<std::size_t>(padded_nonzeros) : 0),
        columns32_(k <= kMost16 ? 0 : static_cast<std::size_t>(padded_nonzeros)) {
    row_begin_[0] = 0;
  }

  // One nonzero of the row being built: columns ascend.
  void append(std::int64_t column, float value) {
    const auto at = static_cast<std::size_t>(next_++);
    values_[at] = value;
    if (columns16_.data() != nullptr)
      columns16_[at] = static_cast<std::uint16_t>(column);
    else
      columns32_[at] = static_cast<std::uint32_t>(column);
  }

  // All nonzeros of the row being built.
  template <class Index>
  void append_row(std::int64_t count, const Index* columns, const float* values) {
    std::copy(values, values + count, values_.data() + next_);
    if (columns16_.data() != nullptr)
      std::transform(columns, columns + count, columns16_.data() + next_, [](Index column) { return static_cast<std::uint16_t>(column); });
    else
      std::transform(columns, columns + count, columns32_.data() + next_, [](Index column) { return static_cast<std::uint32_t>(column); });
    next_ += count;
  }

  void end_row() {
    while (next_ % kStep != 0) append(k(), 0.0f);
    row_begin_[static_cast<std::size_t>(++row_)] = next_;
  }

  void finish() {
    view_ = {row_begin_.data(), values_.data(), columns16_.data(), columns32_.data(), n(), k()};
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(row_begin_), bytes_of(values_), bytes_of(columns16_), bytes_of(columns32_)};
  }
  std::int64_t units() const override { return (n() + kUnit - 1) / kUnit; }

  std::int64_t cost(std::int64_t unit) const override {
    constexpr std::int64_t kRowCost = 8;  // ending a row, in nonzeros
    const std::int64_t rows = std::min(unit * kUnit, n());
    return row_begin_[static_cast<std::size_t>(rows)] + rows * kRowCost;
  }

  std::size_t scratch_bytes(std::int64_t m) const override {
    std::int64_t tile = m == 1 ? 1 : 4;
    while (tile < m && tile < kMaxTile) tile *= 2;
    return static_cast<std::size_t>((k() + 1 + kUnit) * tile) * sizeof(float);
  }

  void row_f32(std::int64_t n, float* out) const override {
    std::fill(out, out + k(), 0.0f);
    for (std::int64_t i = row_begin_[static_cast<std::size_t>(n)]; i < row_begin_[static_cast<std::size_t>(n) + 1]; ++i)
      if (values_[static_cast<std::size_t>(i)] != 0.0f) out[column(i)] = values_[static_cast<std::size_t>(i)];
  }

 private:
  std::int64_t column(std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    return columns16_.data() != nullptr ? columns16_[at] : columns32_[at];
  }

  std::int64_t row_ = 0, next_ = 0;
  AlignedBuffer<std::int64_t> row_begin_;
  AlignedBuffer<float> values_;
  AlignedBuffer<std::uint16_t> columns16_;
  AlignedBuffer<std::uint32_t> columns32_;
  View view_{};
};

void check_columns(const std::string& name, std::int64_t k) {
  if (k > std::numeric_limits<std::uint32_t>::max())
    throw ShapeError(name + ": at most 4294967295 columns, got " + std::to_string(k));
}

std::unique_ptr<Weight> pack_csr_f32(const WeightSource& source) {
  check_columns("weight", source.k());
  std::vector<float> row(static_cast<std::size_t>(source.k()));
  std::int64_t nonzeros = 0, total = 0;
  for (std::int64_t n = 0; n < source.n(); ++n) {
    source.row_f32(n, row.data());
    const auto count = source.k() - std::count(row.begin(), row.end(), 0.0f);
    nonzeros += count;
    total += padded(count);
  }
  auto weight = std::make_unique<CsrF32>(source.n(), source.k(), nonzeros, total);
  for (std::int64_t n = 0; n < source.n(); ++n) {
    source.row_f32(n, row.data());
    for (std::int64_t i = 0; i < source.k(); ++i)
      if (row[static_cast<std::size_t>(i)] != 0.0f) weight->append(i, row[static_cast<std::size_t>(i)]);
    weight->end_row();
  }
  weight->finish();
  return weight;
}

// One row of the arrays, columns ascending, duplicates added, zeros dropped.
template <class Index>
void read_row(const std::string& name, std::int64_t r, std::int64_t k, std::int64_t begin, std::int64_t end,
              const Index* indices, const float* data, std::vector<std::pair<std::int64_t, float>>& row) {
  row.clear();
  bool ascending = true;
  for (std::int64_t i = begin; i < end; ++i) {
    const auto column = static_cast<std::int64_t>(indices[i]);
    if (column < 0 || column >= k)
      throw DataError(name + ": column " + std::to_string(column) + " in row " + std::to_string(r) + ", expected [0, " +
                      std::to_string(k) + ")");
    ascending = ascending && (row.empty() || row.back().first < column);
    row.emplace_back(column, data[i]);
  }
  if (!ascending) {
    std::stable_sort(row.begin(), row.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::size_t kept = 0;
    for (std::size_t i = 1; i < row.size(); ++i) {
      if (row[i].first == row[kept].first)
        row[kept].second += row[i].second;
      else
        row[++kept] = row[i];
    }
    row.resize(kept + 1);
  }
  for (const auto& [column, value] : row)
    if (!std::isfinite(value))
      throw DataError(name + ": the value at [" + std::to_string(r) + ", " + std::to_string(column) + "] is " +
                      std::to_string(value) + ", expected finite");
  row.erase(std::remove_if(row.begin(), row.end(), [](const auto& each) { return each.second == 0.0f; }), row.end());
}

// Whether a row can be taken as it is: columns ascend, values are finite and none is 0.
template <class Index>
bool plain_row(std::int64_t k, std::int64_t begin, std::int64_t end, const Index* indices, const float* data) {
  bool plain = true;
  std::int64_t before = -1;
  for (std::int64_t i = begin; i < end; ++i) {
    const auto column = static_cast<std::int64_t>(indices[i]);
    plain &= column > before;
    plain &= std::fabs(data[i]) <= std::numeric_limits<float>::max();
    plain &= data[i] != 0.0f;
    before = column;
  }
  return plain && before < k;
}

}  // namespace

template <class Index>
std::unique_ptr<Weight> csr_f32_from_arrays(const std::string& name, std::int64_t n, std::int64_t k, const Index* indptr,
                                            const Index* indices, const float* data, std::int64_t nnz) {
  if (n < 1 || k < 1)
    throw ShapeError(name + ": expected at least 1 row and 1 column, got " + shape_text(n, k));
  check_columns(name, k);
  if (indptr[0] != 0) throw DataError(name + ": indptr starts at " + std::to_string(indptr[0]) + ", expected 0");
  for (std::int64_t r = 0; r < n; ++r)
    if (indptr[r + 1] < indptr[r])
      throw DataError(name + ": indptr falls from " + std::to_string(indptr[r]) + " to " + std::to_string(indptr[r + 1]) +
                      " at row " + std::to_string(r));
  if (indptr[n] != nnz)
    throw DataError(name + ": indptr ends at " + std::to_string(indptr[n]) + ", expected the " + std::to_string(nnz) +
                    " values there are");

  // Once to check and count, once to fill: the arrays are exactly as long as they must be.
  std::vector<std::pair<std::int64_t, float>> row;
  std::vector<bool> plain(static_cast<std::size_t>(n));
  std::int64_t nonzeros = 0, total = 0;
  for (std::int64_t r = 0; r < n; ++r) {
    if (r % 64 == 0) stop_if_requested();
    std::int64_t count = indptr[r + 1] - indptr[r];
    if (plain_row(k, indptr[r], indptr[r + 1], indices, data)) {
      plain[static_cast<std::size_t>(r)] = true;
    } else {
      read_row(name, r, k, indptr[r], indptr[r + 1], indices, data, row);
      count = static_cast<std::int64_t>(row.size());
    }
    nonzeros += count;
    total += padded(count);
  }
  auto weight = std::make_unique<CsrF32>(n, k, nonzeros, total);
  for (std::int64_t r = 0; r < n; ++r) {
    if (plain[static_cast<std::size_t>(r)]) {
      weight->append_row(indptr[r + 1] - indptr[r], indices + indptr[r], data + indptr[r]);
    } else {
      read_row(name, r, k, indptr[r], indptr[r + 1], indices, data, row);
      for (const auto& [column, value] : row) weight->append(column, value);
    }
    weight->end_row();
  }
  weight->finish();
  return weight;
}

template std::unique_ptr<Weight> csr_f32_from_arrays<std::int32_t>(const std::string&, std::int64_t, std::int64_t,
                                                                   const std::int32_t*, const std::int32_t*, const float*,
                                                                   std::int64_t);
template std::unique_ptr<Weight> csr_f32_from_arrays<std::int64_t>(const std::string&, std::int64_t, std::int64_t,
                                                                   const std::int64_t*, const std::int64_t*, const float*,
                                                                   std::int64_t);

std::unique_ptr<Weight> pack_csr_f32_scalar(const WeightSource& source) { return pack_csr_f32(source); }
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_csr_f32_avx2(const WeightSource& source) { return pack_csr_f32(source); }
std::unique_ptr<Weight> pack_csr_f32_avx512vnni(const WeightSource& source) { return pack_csr_f32(source); }
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_csr_f32_neon(const WeightSource& source) { return pack_csr_f32(source); }
#endif

}  // namespace aerogel
