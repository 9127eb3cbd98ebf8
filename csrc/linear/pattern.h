// How the zeros of a weight lie.
#pragma once

#include <cstdint>

#include "linear/weight.h"

namespace aerogel {

// Windows and blocks are aligned: they begin at multiples of their width, and blocks of rows at multiples of their height.
struct Pattern {
  std::int64_t nonzeros = 0;
  std::int64_t least_in_row = 0, most_in_row = 0;
  std::int64_t empty_rows = 0, empty_columns = 0;
  std::int64_t most_in_4 = 0, most_in_8 = 0, most_in_64 = 0;  // nonzeros of the fullest window of so many columns
  std::int64_t blocks4 = 0;                                   // 1x4 blocks that are not empty
  std::int64_t rows2 = 0, rows4 = 0;                          // 2x1 and 4x1 blocks that are not empty
};

Pattern find_pattern(const WeightSource& source);
Pattern find_pattern(const Weight& weight);  // slower: decodes every row

}  // namespace aerogel
