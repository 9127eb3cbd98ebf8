#include "linear/pattern.h"

#include <algorithm>
#include <vector>

namespace aerogel {
namespace {

template <class T>
void count_row(const T* row, std::int64_t k, Pattern& pattern, std::uint8_t* column_used) {
  std::int64_t in_row = 0, in_64 = 0, in_8 = 0;
  for (std::int64_t begin = 0; begin < k; begin += 4) {
    if (begin % 64 == 0) in_64 = 0;
    if (begin % 8 == 0) in_8 = 0;
    std::int64_t in_4 = 0;
    for (std::int64_t i = begin; i < std::min(begin + 4, k); ++i) {
      const bool there = row[i] != T{0};
      in_4 += there;
      column_used[i] |= static_cast<std::uint8_t>(there);
    }
    in_row += in_4;
    in_8 += in_4;
    in_64 += in_4;
    pattern.blocks4 += in_4 != 0;
    pattern.most_in_4 = std::max(pattern.most_in_4, in_4);
    pattern.most_in_8 = std::max(pattern.most_in_8, in_8);
    pattern.most_in_64 = std::max(pattern.most_in_64, in_64);
  }
  pattern.nonzeros += in_row;
  pattern.empty_rows += in_row == 0;
  pattern.least_in_row = std::min(pattern.least_in_row, in_row);
  pattern.most_in_row = std::max(pattern.most_in_row, in_row);
}

}  // namespace

namespace {

// row(n, out) writes row n.
template <class T, class Row>
Pattern count_rows(std::int64_t n, std::int64_t k, const Row& row) {
  Pattern pattern;
  pattern.least_in_row = k;
  std::vector<std::uint8_t> column_used(static_cast<std::size_t>(k));
  std::vector<T> values(static_cast<std::size_t>(k));
  for (std::int64_t i = 0; i < n; ++i) {
    row(i, values.data());
    count_row(values.data(), k, pattern, column_used.data());
  }
  pattern.empty_columns = std::count(column_used.begin(), column_used.end(), std::uint8_t{0});
  return pattern;
}

}  // namespace

Pattern find_pattern(const WeightSource& source) {
  if (source.quantized())
    return count_rows<std::int8_t>(source.n(), source.k(), [&](std::int64_t n, std::int8_t* out) { source.row_q8(n, out); });
  return count_rows<float>(source.n(), source.k(), [&](std::int64_t n, float* out) { source.row_f32(n, out); });
}

Pattern find_pattern(const Weight& weight) {
  return count_rows<float>(weight.n(), weight.k(), [&](std::int64_t n, float* out) { weight.row_f32(n, out); });
}

}  // namespace aerogel
