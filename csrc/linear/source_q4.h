// What the formats of 4-bit weights share when they pack: a WeightSource of indices, brought to one of two forms for all rows.
//
//     linear    code[n, k] = index[n, k] * multiplier[n, g] + offset[n, g]    integers
//     table     code[n, k] = levels[index[n, k]]                              a codebook; every 32 rows may have another
//
// with g = k / group, and group a multiple of 32 columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linear/weight.h"

namespace aerogel {

class SourceQ4 {
 public:
  // Empty if a format can hold the source, else why not. `masked`: the format says which weights are zero; one that does not needs
  // an index that stands for 0 in every group where the source leaves weights out.
  static std::string refusal(const WeightSource& source, bool masked);

  // Throws DataError with the format's name and the refusal.
  SourceQ4(const WeightSource& source, const char* format, bool masked);

  struct Row {
    std::vector<std::uint8_t> index;       // [K], WeightSource::kNotStored where the weight is left out
    std::vector<std::uint8_t> multiplier;  // [groups], 1 if a table
    std::vector<std::int8_t> offset;       // [groups], 0 if a table
    std::int8_t levels[16];                // 0 .. 15 if linear
    float scale;

    // The index that stands for 0 in a group, -1 if none does.
    int zero_index(std::int64_t g) const;
  };
  void row(std::int64_t n, Row* out) const;

  bool linear() const { return linear_; }
  std::int64_t group() const { return group_; }      // columns; K rounded up to 32 if a row is one
  std::int64_t groups() const { return groups_; }    // of a row
  bool multipliers() const { return multipliers_; }  // one is not 1
  bool offsets() const { return offsets_; }          // they are not the same whole number of steps everywhere
  std::int8_t zero() const { return zero_; }         // if they are: offset = -zero * multiplier, |index - zero| <= 16; else 0

 private:
  friend bool is_linear_q4(const WeightSource& source);
  explicit SourceQ4(const WeightSource& source) : source_(source) {}
  std::string examine(bool masked);

  const WeightSource& source_;
  bool linear_ = true, multipliers_ = false, offsets_ = false;
  std::int64_t group_ = 0, groups_ = 0;
  std::int8_t zero_ = 0;
};

// Whether a format could hold the source, and as integers.
bool is_linear_q4(const WeightSource& source);

}  // namespace aerogel
