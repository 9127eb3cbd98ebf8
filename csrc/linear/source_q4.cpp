#include "linear/source_q4.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/aligned.h"
#include "base/error.h"

namespace aerogel {
namespace {

// Rows of one panel share their levels, whatever the instruction set.
constexpr std::int64_t kSharedLevels = 32;
constexpr std::int64_t kBlock = 32;    // columns; a group is whole blocks
constexpr std::int64_t kFarthest = 16; // of an index from its zero: what the linear kernel of AVX2 bears

bool rises_by_one(const WeightSource::RowQ4& row) {
  for (int i = 1; i < row.count; ++i)
    if (row.levels[i] != row.levels[0] + i) return false;
  return true;
}

bool same_levels(const WeightSource::RowQ4& a, const WeightSource::RowQ4& b) {
  return a.count == b.count && std::memcmp(a.levels, b.levels, static_cast<std::size_t>(a.count)) == 0;
}

int multiplier(const WeightSource::RowQ4& row, std::int64_t g) { return row.multiplier == nullptr ? 1 : row.multiplier[g]; }

// The code of index 0, in a row whose levels rise by one.
int offset(const WeightSource::RowQ4& row, std::int64_t g) {
  return (row.levels[0] - (row.zero == nullptr ? 0 : row.zero[g])) * multiplier(row, g) + (row.offset == nullptr ? 0 : row.offset[g]);
}

}  // namespace

int SourceQ4::Row::zero_index(std::int64_t g) const {
  for (int i = 0; i < 16; ++i)
    if (levels[i] * multiplier[static_cast<std::size_t>(g)] + offset[static_cast<std::size_t>(g)] == 0) return i;
  return -1;
}

std::string SourceQ4::refusal(const WeightSource& source, bool masked) { return SourceQ4(source).examine(masked); }

SourceQ4::SourceQ4(const WeightSource& source, const char* format, bool masked) : SourceQ4(source) {
  const std::string why = examine(masked);
  if (!why.empty()) throw DataError(std::string(format) + ": " + why);
}

bool is_linear_q4(const WeightSource& source) {
  SourceQ4 found(source);
  return found.examine(false).empty() && found.linear();
}

std::string SourceQ4::examine(bool masked) {
  if (!source_.four_bit()) return std::string("takes indices of at most 16 levels, got ") + source_.numbers() + " values";
  const std::int64_t n = source_.n(), k = source_.k();
  std::vector<std::uint8_t> index(static_cast<std::size_t>(k));

  bool table = true;  // no multipliers, zeros, offsets
  int zero = 0;       // of the first group with a step
  bool known = false;
  WeightSource::RowQ4 first{};
  for (std::int64_t i = 0; i < n; ++i) {
    const WeightSource::RowQ4 row = source_.row_q4(i, index.data());
    const std::int64_t groups = (k + row.group - 1) / row.group;
    if (groups > 1) {
      if (row.group % kBlock != 0)
        return "takes groups of a multiple of " + std::to_string(kBlock) + " columns, got " + std::to_string(row.group);
      group_ = std::gcd(group_, row.group);
    }
    if (i % kSharedLevels == 0) first = row;
    if (!same_levels(first, row)) return "takes the same levels in each " + std::to_string(kSharedLevels) + " rows, row " + std::to_string(i) + " has others";
    linear_ = linear_ && rises_by_one(row);
    for (std::int64_t g = 0; g < groups; ++g) {
      if (row.multiplier != nullptr && row.multiplier[g] != 1) multipliers_ = true;
      if ((row.zero != nullptr && row.zero[g] != 0) || (row.offset != nullptr && row.offset[g] != 0)) table = false;
      if (!linear_) continue;
      const int first_code = offset(row, g), step = multiplier(row, g);
      if (first_code < -128 || first_code > 127) linear_ = false;
      if (step == 0 && first_code == 0) continue;  // all 0, whatever its zero
      const int z = step == 0 ? 0 : -first_code / step;
      if (!known) zero = z;
      known = true;
      offsets_ = offsets_ || z != zero || first_code != -z * step || z > kFarthest || row.count - 1 - z > kFarthest;
    }
  }
  if (!linear_) {
    if (multipliers_ || !table) return "takes levels that rise by one from a code in int8 on, or no multipliers, zeros and offsets";
    offsets_ = false;
  }
  zero_ = static_cast<std::int8_t>(linear_ && !offsets_ ? zero : 0);
  if (group_ == 0) group_ = round_up(k, kBlock);
  groups_ = (k + group_ - 1) / group_;

  // Where a weight is left out, 0 must have an index. A mask of linear weights is filled with it in every group.
  Row row;
  for (std::int64_t i = 0; i < n && !(masked && !linear_); ++i) {
    this->row(i, &row);
    for (std::int64_t g = 0; g < groups_; ++g) {
      if (row.zero_index(g) >= 0) continue;
      const auto begin = row.index.begin() + g * group_, end = row.index.begin() + std::min(k, (g + 1) * group_);
      if (masked || std::find(begin, end, WeightSource::kNotStored) != end) return "0 is not among the levels of row " + std::to_string(i);
    }
  }
  return "";
}

void SourceQ4::row(std::int64_t n, Row* out) const {
  out->index.resize(static_cast<std::size_t>(source_.k()));
  const WeightSource::RowQ4 row = source_.row_q4(n, out->index.data());
  out->scale = row.scale;
  out->multiplier.assign(static_cast<std::size_t>(groups_), 1);
  out->offset.assign(static_cast<std::size_t>(groups_), 0);
  for (std::int64_t g = 0; linear_ && g < groups_; ++g) {
    const std::int64_t from = g * group_ / row.group;
    if (row.multiplier != nullptr) out->multiplier[static_cast<std::size_t>(g)] = row.multiplier[from];
    out->offset[static_cast<std::size_t>(g)] = static_cast<std::int8_t>(offset(row, from));
  }
  for (int i = 0; i < 16; ++i) out->levels[i] = static_cast<std::int8_t>(linear_ ? i : i < row.count ? row.levels[i] : 0);
}

}  // namespace aerogel
