#include "linear/weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/bf16.h"
#include "base/error.h"

namespace aerogel {
namespace {

// The int32 sum of K products of two codes in [-127, 127] must not overflow.
constexpr std::int64_t kMaxQuantizedK = 2147483647LL / (127 * 127);

}  // namespace

WeightSource::WeightSource(std::int64_t k) : k_(k) {
  if (k < 1) throw ShapeError("weight: expected at least 1 column, got " + std::to_string(k));
}

void WeightSource::add(const std::string& name, Part part, std::int64_t values) {
  if (part.rows < 1) throw ShapeError(name + ": expected at least 1 row, got " + std::to_string(part.rows));
  const bool quantized = part.q8 != nullptr, bf16 = part.bf16 != nullptr;
  if (quantized + bf16 + (part.f32 != nullptr) != 1) throw DataError(name + ": expected either float or bf16 values or int8 codes");
  if (!parts_.empty() && (quantized != quantized_ || bf16 != bf16_))
    throw DataError(name + ": stacked weights must all be float, all bf16 or all int8");
  if (quantized && part.scale == nullptr) throw DataError(name + ": int8 codes need a scale per row");
  if (quantized && k_ > kMaxQuantizedK)
    throw ShapeError(name + ": at most " + std::to_string(kMaxQuantizedK) + " columns keep int32 sums exact, got " +
                     std::to_string(k_));

  std::int64_t expected = part.rows * k_;
  if (part.mask != nullptr) {
    const std::int64_t row_bytes = (k_ + 7) / 8;
    part.row_begin.resize(static_cast<std::size_t>(part.rows) + 1);
    std::int64_t count = 0;
    for (std::int64_t r = 0; r < part.rows; ++r) {
      part.row_begin[r] = count;
      const std::uint8_t* bits = part.mask + r * row_bytes;
      std::int64_t i = 0;
      for (; i + 8 <= row_bytes; i += 8) {
        std::uint64_t word;
        std::memcpy(&word, bits + i, 8);
        count += __builtin_popcountll(word);
      }
      for (; i < row_bytes; ++i) count += __builtin_popcount(bits[i]);
      if (k_ % 8 != 0 && (bits[row_bytes - 1] >> (k_ % 8)) != 0)
        throw DataError(name + ": the bit mask of row " + std::to_string(r) + " marks columns beyond " + std::to_string(k_));
    }
    part.row_begin[part.rows] = count;
    expected = count;
  }
  if (values != expected)
    throw DataError(name + ": expected " + std::to_string(expected) + " stored values, got " + std::to_string(values));

  if (quantized) {
    for (std::int64_t r = 0; r < part.rows; ++r)
      if (!std::isfinite(part.scale[r]) || part.scale[r] < 0)
        throw DataError(name + ": scale of row " + std::to_string(r) + " is " + std::to_string(part.scale[r]) +
                        ", expected a finite number that is not negative");
    std::int64_t zeros = 0, lowest = 0;
    for (std::int64_t i = 0; i < values; ++i) {
      zeros += part.q8[i] == 0;
      lowest += part.q8[i] == -128;
    }
    if (lowest != 0) throw DataError(name + ": " + std::to_string(lowest) + " codes are -128, expected [-127, 127]");
    nonzeros_ += values - zeros;
  } else if (bf16) {
    std::int64_t zeros = 0;
    for (std::int64_t i = 0; i < values; ++i) {
      if (!bf16_is_finite(part.bf16[i]))
        throw DataError(name + ": value " + std::to_string(i) + " is " + std::to_string(bf16_to_float(part.bf16[i])) +
                        ", expected finite");
      zeros += (part.bf16[i] & 0x7fff) == 0;
    }
    nonzeros_ += values - zeros;
  } else {
    std::int64_t zeros = 0;
    for (std::int64_t i = 0; i < values; ++i) {
      if (!std::isfinite(part.f32[i]))
        throw DataError(name + ": value " + std::to_string(i) + " is " + std::to_string(part.f32[i]) + ", expected finite");
      zeros += part.f32[i] == 0.0f;
    }
    nonzeros_ += values - zeros;
  }
  quantized_ = quantized;
  bf16_ = bf16;
  n_ += part.rows;
  parts_.push_back(std::move(part));
}

double WeightSource::sparsity() const {
  return n_ == 0 ? 0.0 : 1.0 - static_cast<double>(nonzeros_) / (static_cast<double>(n_) * static_cast<double>(k_));
}

const WeightSource::Part& WeightSource::part_of(std::int64_t n, std::int64_t* row) const {
  for (const Part& part : parts_) {
    if (n < part.rows) {
      *row = n;
      return part;
    }
    n -= part.rows;
  }
  throw ShapeError("weight row out of range");
}

namespace {

// The next 64 bits of a mask of which `columns` are left.
std::uint64_t mask_word(const std::uint8_t* mask, std::int64_t columns) {
  std::uint64_t word = 0;
  const std::int64_t bytes = std::min<std::int64_t>(8, (columns + 7) / 8);
  for (std::int64_t i = 0; i < bytes; ++i) word |= static_cast<std::uint64_t>(mask[i]) << (8 * i);
  return word;
}

// Row r of a part: decoded by `value`, 0 where nothing is stored.
template <class T, class Out, class Decode>
void decode(const WeightSource::Part& part, const T* values, std::int64_t r, std::int64_t k, Out* out, const Decode& value) {
  if (part.mask == nullptr) {
    const T* row = values + r * k;
    for (std::int64_t i = 0; i < k; ++i) out[i] = value(row[i]);
    return;
  }
  const std::uint8_t* mask = part.mask + r * ((k + 7) / 8);
  const T* next = values + part.row_begin[r];
  std::fill(out, out + k, Out{0});
  for (std::int64_t i = 0; i < k; i += 64)  // set bit by set bit: most are not
    for (std::uint64_t word = mask_word(mask + i / 8, k - i); word != 0; word &= word - 1) out[i + __builtin_ctzll(word)] = value(*next++);
}

}  // namespace

void WeightSource::row_q8(std::int64_t n, std::int8_t* out) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  decode(part, part.q8, r, k_, out, [](std::int8_t code) { return code; });
}

void WeightSource::row_bf16(std::int64_t n, std::uint16_t* out) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  if (part.bf16 != nullptr) return decode(part, part.bf16, r, k_, out, [](std::uint16_t code) { return code; });
  std::vector<float> row(static_cast<std::size_t>(k_));
  row_f32(n, row.data());
  for (std::int64_t i = 0; i < k_; ++i) out[i] = bf16_from_float(row[static_cast<std::size_t>(i)]);
}

void WeightSource::row_f32(std::int64_t n, float* out) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  if (part.f32 != nullptr) return decode(part, part.f32, r, k_, out, [](float value) { return value; });
  if (part.bf16 != nullptr) return decode(part, part.bf16, r, k_, out, bf16_to_float);
  const float scale = part.scale[r];
  decode(part, part.q8, r, k_, out, [scale](std::int8_t code) { return static_cast<float>(code) * scale; });
}

float WeightSource::scale(std::int64_t n) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  return part.scale[r];
}

}  // namespace aerogel
