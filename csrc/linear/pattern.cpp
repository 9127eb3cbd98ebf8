#include "linear/pattern.h"

#include <algorithm>
#include <vector>

#include "base/stop.h"

namespace aerogel {
namespace {

// Numbers of set bits in each of the 16 groups of 4 bits, and in each of the 8 bytes.
std::uint64_t bits_in_4(std::uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555u;
  return (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
}
std::uint64_t bits_in_8(std::uint64_t word) {
  const std::uint64_t in_4 = bits_in_4(word);
  return (in_4 + (in_4 >> 4)) & 0x0f0f0f0f0f0f0f0fu;
}

std::int64_t largest(std::uint64_t fields, int width) {
  std::uint64_t most = 0;
  for (; fields != 0; fields >>= width) most = std::max(most, fields & ((std::uint64_t{1} << width) - 1));
  return static_cast<std::int64_t>(most);
}

// The number of set bits, which are cleared.
std::int64_t take_bits(std::vector<std::uint64_t>& words) {
  std::int64_t sum = 0;
  for (std::uint64_t& word : words) {
    sum += __builtin_popcountll(word);
    word = 0;
  }
  return sum;
}

// A row at a time, as a mask of 64 columns a word. used[0]: columns that any row used so far, used[1] and used[2]: rows of the
// current block of two and of four.
template <class T>
void count_row(const T* row, std::int64_t k, Pattern& pattern, std::vector<std::uint64_t> (&used)[3]) {
  std::int64_t in_row = 0;
  for (std::int64_t begin = 0; begin < k; begin += 64) {
    std::uint64_t word = 0;
    const std::int64_t end = std::min(begin + 64, k);
    for (std::int64_t i = begin; i < end; ++i) word |= static_cast<std::uint64_t>(row[i] != T{0}) << (i - begin);
    for (std::vector<std::uint64_t>& each : used) each[static_cast<std::size_t>(begin / 64)] |= word;
    const std::int64_t in_64 = __builtin_popcountll(word);
    in_row += in_64;
    pattern.most_in_64 = std::max(pattern.most_in_64, in_64);
    if (pattern.most_in_8 < 8) pattern.most_in_8 = std::max(pattern.most_in_8, largest(bits_in_8(word), 8));
    if (pattern.most_in_4 < 4) pattern.most_in_4 = std::max(pattern.most_in_4, largest(bits_in_4(word), 4));
    pattern.blocks4 += __builtin_popcountll((word | word >> 1 | word >> 2 | word >> 3) & 0x1111111111111111u);
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
  std::vector<std::uint64_t> used[3];
  for (std::vector<std::uint64_t>& each : used) each.resize(static_cast<std::size_t>((k + 63) / 64));
  std::vector<T> values(static_cast<std::size_t>(k));
  for (std::int64_t i = 0; i < n; ++i) {
    if (i % 16 == 0) stop_if_requested();
    row(i, values.data());
    count_row(values.data(), k, pattern, used);
    if (i % 2 == 1 || i == n - 1) pattern.rows2 += take_bits(used[1]);
    if (i % 4 == 3 || i == n - 1) pattern.rows4 += take_bits(used[2]);
  }
  pattern.empty_columns = k - take_bits(used[0]);
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
