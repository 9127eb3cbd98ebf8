#include "linear/source_q4.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "base/error.h"

namespace aerogel {
namespace {

// Rows of one panel share their levels, whatever the instruction set.
constexpr std::int64_t kSharedLevels = 32;
constexpr std::int64_t kBlock = 32;  // columns: groups are made of whole ones

// The zero of a group, and what an index is too large by.
int zero_of(const WeightSource::RowQ4& row, std::int64_t g) { return row.zero == nullptr ? 0 : row.zero[g]; }

bool rises_by_one(const WeightSource::RowQ4& row) {
  for (int i = 1; i < row.count; ++i)
    if (row.levels[i] != row.levels[0] + i) return false;
  return true;
}

}  // namespace

int SourceQ4::Row::zero_index(std::int64_t g) const {
  for (int i = 0; i < 16; ++i)
    if (levels[i] == zero[static_cast<std::size_t>(g)]) return i;
  return -1;
}

std::string SourceQ4::refusal(const WeightSource& source, bool masked) {
  std::string why;
  SourceQ4(source, masked, &why);
  return why;
}

SourceQ4::SourceQ4(const WeightSource& source, const char* format, bool masked) : source_(source) {
  std::string why;
  *this = SourceQ4(source, masked, &why);
  if (!why.empty()) throw DataError(std::string(format) + ": " + why);
}
