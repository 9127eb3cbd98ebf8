// What the formats of 4-bit weights share when they pack: a WeightSource of indices, brought to one of two forms, for all its rows.
//
//     linear    code[n, k] = (index - zero[n, g]) * multiplier[n, g]    integers; |index - zero| <= 16
//     table     code[n, k] = levels[index]                              a codebook; the levels may differ every 32 rows
//
// with g = k / group, group a multiple of 32 columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linear/weight.h"

namespace aerogel {

class SourceQ4 {
 public:
  // Empty if a format can hold the source, else why not. `masked`: whether the format stores which weights are zero; one that does
  // not needs an index that stands for 0 wherever the source leaves weights out.
  static std::string refusal(const WeightSource& source, bool masked);

  // Throws DataError with the refusal.
  SourceQ4(const WeightSource& source, const char* format, bool masked);

  bool linear = false;
  std::int64_t group = 0;     // columns; one group: K rounded up to 32
  std::int64_t groups = 0;    // of a row
  bool multipliers = false;   // one is not 1
  bool zeros = false;         // they differ
  std::int8_t zero = 0;       // if they do not

  struct Row {
    std::vector<std::uint8_t> index;       // [K], WeightSource::kNotStored where the weight is left out
    std::vector<std::uint8_t> multiplier;  // [groups]
    std::vector<std::int8_t> zero;         // [groups]
    std::int8_t levels[16];                // 0 .. 15 if linear
    float scale;

    // The index that stands for 0 in a group, or -1.
    int zero_index(std::int64_t g) const;
  };
  Row row(std::int64_t n) const;

 private:
  SourceQ4(const WeightSource& source, bool masked, std::string* why);
  const WeightSource& source_;
};

}  // namespace aerogel
