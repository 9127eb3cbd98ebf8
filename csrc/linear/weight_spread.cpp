// A part of the rows of weights that stands for all of them.
#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

template <class T>
const T* ahead(const T* from, std::int64_t elements) {
  return from == nullptr ? nullptr : from + elements;
}

// Rows [begin, begin + count) of a part, in the arrays of that part.
WeightSource::Part rows_of(const WeightSource::Part& part, std::int64_t begin, std::int64_t count, std::int64_t k) {
  WeightSource::Part rows = part;
  rows.rows = count;
  const std::int64_t groups = part.group == 0 ? 1 : (k + part.group - 1) / part.group;
  rows.scale = ahead(part.scale, begin * (part.q8 != nullptr ? groups : 1));
  rows.multiplier = ahead(part.multiplier, begin * groups);
  rows.zero = ahead(part.zero, begin * groups);
  rows.offset = ahead(part.offset, begin * groups);
  if (part.mask != nullptr) {  // row_begin counts from the first value of the whole part
    rows.mask = part.mask + begin * ((k + 7) / 8);
    rows.row_begin.assign(part.row_begin.begin() + begin, part.row_begin.begin() + begin + count + 1);
    return rows;
  }
  rows.f32 = ahead(part.f32, begin * k);
  rows.bf16 = ahead(part.bf16, begin * k);
  rows.f16 = ahead(part.f16, begin * k);
  rows.q8 = ahead(part.q8, begin * k);
  rows.index = ahead(part.index, begin * ((k * part.index_bits + 7) / 8));
  if (part.blocks != nullptr) rows.blocks = part.blocks + begin * (k / part.block_type->columns) * part.block_type->bytes;
  return rows;
}

}  // namespace

WeightSource WeightSource::spread(std::int64_t rows, std::int64_t run) const {
  if (run < 1 || rows < run || rows % run != 0 || rows > n_)
    throw ShapeError("spread: expected a multiple of " + std::to_string(run) + " rows of at most " + std::to_string(n_) + ", got " + std::to_string(rows));
  WeightSource found(k_);
  found.kind_ = kind_;
  found.group_ = group_;
  const std::int64_t runs = rows / run;
  for (std::int64_t i = 0; i < runs; ++i) {
    const std::int64_t begin = (n_ / run) * i / runs * run;
    std::int64_t first = 0;  // row of the whole that a part begins with
    for (const Part& part : parts_) {
      const std::int64_t from = std::max(begin, first), to = std::min(begin + run, first + part.rows);
      if (from < to) found.parts_.push_back(rows_of(part, from - first, to - from, k_));
      first += part.rows;
    }
  }
  found.n_ = rows;
  std::vector<float> row(static_cast<std::size_t>(k_));
  for (std::int64_t n = 0; n < rows; ++n) {
    found.row_f32(n, row.data());
    found.nonzeros_ += k_ - std::count(row.begin(), row.end(), 0.0f);
  }
  return found;
}

}  // namespace aerogel
