#include "linear/weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/bf16.h"
#include "base/error.h"
#include "base/f16.h"
#include "base/stop.h"

namespace aerogel {
namespace {

// The int32 sum of K products of two codes in [-127, 127] must not overflow.
constexpr std::int64_t kMaxQuantizedK = 2147483647LL / (127 * 127);

// The next 64 bits of a mask of which `columns` are left.
std::uint64_t mask_word(const std::uint8_t* mask, std::int64_t columns) {
  std::uint64_t word = 0;
  const std::int64_t bytes = std::min<std::int64_t>(8, (columns + 7) / 8);
  for (std::int64_t i = 0; i < bytes; ++i) word |= static_cast<std::uint64_t>(mask[i]) << (8 * i);
  return word;
}

// Fills row_begin from the mask; returns the number of stored values.
std::int64_t count_stored(const std::string& name, WeightSource::Part& part, std::int64_t k) {
  const std::int64_t row_bytes = (k + 7) / 8;
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
    if (k % 8 != 0 && (bits[row_bytes - 1] >> (k % 8)) != 0)
      throw DataError(name + ": the bit mask of row " + std::to_string(r) + " marks columns beyond " + std::to_string(k));
  }
  part.row_begin[part.rows] = count;
  return count;
}

std::int64_t groups_of(const WeightSource::Part& part, std::int64_t k) {
  return part.group == 0 ? 1 : (k + part.group - 1) / part.group;
}

void check_scales(const std::string& name, const WeightSource::Part& part, std::int64_t k) {
  const std::int64_t per_row = part.q8 != nullptr ? groups_of(part, k) : 1;
  for (std::int64_t i = 0; i < part.rows * per_row; ++i)
    if (!std::isfinite(part.scale[i]) || part.scale[i] < 0)
      throw DataError(name + ": scale of row " + std::to_string(i / per_row) + " is " + std::to_string(part.scale[i]) +
                      ", expected a finite number that is not negative");
}

// What follows returns how many of the values are not zero.

std::int64_t check_codes(const std::string& name, const std::int8_t* codes, std::int64_t values) {
  std::int64_t zeros = 0, lowest = 0;
  for (std::int64_t i = 0; i < values; ++i) {
    zeros += codes[i] == 0;
    lowest += codes[i] == -128;
  }
  if (lowest != 0) throw DataError(name + ": " + std::to_string(lowest) + " codes are -128, expected [-127, 127]");
  return values - zeros;
}

template <class T, class ToFloat>
std::int64_t check_finite(const std::string& name, const T* values, std::int64_t count, const ToFloat& to_float) {
  std::int64_t zeros = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = to_float(values[i]);
    if (!std::isfinite(value))
      throw DataError(name + ": value " + std::to_string(i) + " is " + std::to_string(value) + ", expected finite");
    zeros += value == 0.0f;
  }
  return count - zeros;
}

constexpr auto kAsItIs = [](float value) { return value; };

// Readers of indices, each from the first index of a row on.
struct Bytes {
  const std::uint8_t* from;
  std::uint8_t next() { return *from++; }
};
struct Nibbles {
  const std::uint8_t* from;
  std::size_t at;
  std::uint8_t next() {
    const auto index = static_cast<std::uint8_t>(from[at / 2] >> (4 * (at % 2)) & 15);
    ++at;
    return index;
  }
};
struct Bits {
  Bits(const std::uint8_t* indices, std::int64_t first, int width) : from(indices + first * width / 8), bits(width) {
    const int skipped = static_cast<int>(first * width % 8);
    if (skipped == 0) return;
    ahead = *from++ >> skipped;  // its first bits are of the index before
    have = 8 - skipped;
  }
  std::uint8_t next() {
    if (have < bits) {
      ahead |= static_cast<std::uint32_t>(*from++) << have;
      have += 8;
    }
    const auto index = static_cast<std::uint8_t>(ahead & ((1u << bits) - 1));
    ahead >>= bits;
    have -= bits;
    return index;
  }
  const std::uint8_t* from;
  int bits, have = 0;
  std::uint32_t ahead = 0;
};

std::int64_t index_bytes(const WeightSource::Part& part, std::int64_t count) { return (count * part.index_bits + 7) / 8; }

// Row r of indices: begin(group) at the start of each, put(column, index) for each that is stored.
template <class Reader, class Begin, class Put>
void walk(const WeightSource::Part& part, std::int64_t r, std::int64_t k, Reader reader, const Begin& begin, const Put& put) {
  const std::int64_t width = part.group == 0 ? k : part.group;
  const std::uint8_t* mask = part.mask == nullptr ? nullptr : part.mask + r * ((k + 7) / 8);
  for (std::int64_t first = 0, group = 0; first < k; first += width, ++group) {
    const std::int64_t end = std::min(first + width, k);
    begin(group);
    if (mask == nullptr)
      for (std::int64_t i = first; i < end; ++i) put(i, reader.next());
    else
      for (std::int64_t i = first; i < end; i += 64)
        for (std::uint64_t word = mask_word(mask + i / 8, end - i); word != 0; word &= word - 1) put(i + __builtin_ctzll(word), reader.next());
  }
}

template <class Begin, class Put>
void walk(const WeightSource::Part& part, std::int64_t r, std::int64_t k, const Begin& begin, const Put& put) {
  const std::int64_t first = part.mask == nullptr ? 0 : part.row_begin[r];
  const std::uint8_t* indices = part.index + (part.mask == nullptr ? r * index_bytes(part, k) : 0);
  if (part.index_bits == 8) return walk(part, r, k, Bytes{indices + first}, begin, put);
  if (part.index_bits == 4) return walk(part, r, k, Nibbles{indices, static_cast<std::size_t>(first)}, begin, put);
  walk(part, r, k, Bits{indices, first, part.index_bits}, begin, put);
}

// The same with what the indices stand for in a table of levels: put(column, index, code). Indices are trusted.
template <class Put>
void walk_codes(const WeightSource::Part& part, const std::int8_t* levels, std::int64_t r, std::int64_t k, const Put& put) {
  const std::int64_t groups = groups_of(part, k);
  std::int32_t zero = 0, multiplier = 1, offset = 0;
  walk(
      part, r, k,
      [&](std::int64_t group) {
        if (part.zero != nullptr) zero = part.zero[r * groups + group];
        if (part.multiplier != nullptr) multiplier = part.multiplier[r * groups + group];
        if (part.offset != nullptr) offset = part.offset[r * groups + group];
      },
      [&](std::int64_t column, std::uint8_t index) { put(column, index, (levels[index] - zero) * multiplier + offset); });
}

void check_table(const std::string& name, const WeightSource::Part& part) {
  if (part.index_bits < 1 || part.index_bits > 8)
    throw DataError(name + ": expected indices of 1 to 8 bits, got " + std::to_string(part.index_bits));
  if (part.levels.empty() || part.levels.size() > (std::size_t{1} << part.index_bits))
    throw DataError(name + ": expected 1 to " + std::to_string(1 << part.index_bits) + " levels, as many as an index can tell apart, got " +
                    std::to_string(part.levels.size()));
}

std::int64_t check_indices(const std::string& name, const WeightSource::Part& part, std::int64_t k) {
  std::int8_t table[256] = {};  // any index has a level here
  std::copy(part.levels.begin(), part.levels.end(), table);
  const auto levels = static_cast<int>(part.levels.size());
  std::int64_t nonzeros = 0;
  for (std::int64_t r = 0; r < part.rows; ++r) {
    if (r % 16 == 0) stop_if_requested();
    int highest = 0, most = 0;
    walk_codes(part, table, r, k, [&](std::int64_t, int index, std::int32_t code) {
      highest = std::max(highest, index);
      most = std::max(most, std::abs(code));
      nonzeros += code != 0;
    });
    if (highest >= levels)
      throw DataError(name + ": an index in row " + std::to_string(r) + " is " + std::to_string(highest) + ", expected less than " +
                      std::to_string(levels) + ", the number of levels");
    if (most > 127)
      throw DataError(name + ": a code in row " + std::to_string(r) + " decodes to " + std::to_string(most) +
                      " in magnitude, expected at most 127");
  }
  return nonzeros;
}

// Bytes of all blocks.
std::int64_t check_blocks(const std::string& name, const WeightSource::Part& part, std::int64_t k) {
  if (part.block_type == nullptr || part.mask != nullptr) throw DataError(name + ": blocks have a type and no mask");
  const std::int64_t columns = part.block_type->columns;
  if (k % columns != 0)
    throw ShapeError(name + ": blocks of type " + part.block_type->name + ": expected a multiple of " + std::to_string(columns) +
                     " columns, got " + std::to_string(k));
  if (k > kMaxQuantizedK)
    throw ShapeError(name + ": expected at most " + std::to_string(kMaxQuantizedK) + " columns, got " + std::to_string(k));
  return part.rows * (k / columns) * part.block_type->bytes;
}

std::int64_t check_block_values(const std::string& name, const WeightSource::Part& part, std::int64_t k) {
  const BlockType& type = *part.block_type;
  std::int64_t nonzeros = 0;
  float values[256];
  for (std::int64_t i = 0; i < part.rows * (k / type.columns); ++i) {
    if (i % 1024 == 0) stop_if_requested();
    decode_block(type, part.blocks + i * type.bytes, values);
    // 0 times a value that is not finite is NaN, and so is their sum then.
    float poison = 0.0f;
    int zeros = 0;
    for (int c = 0; c < type.columns; ++c) {
      poison += 0.0f * values[c];
      zeros += values[c] == 0.0f;
    }
    if (poison != 0.0f)
      throw DataError(name + ": a block of row " + std::to_string(i / (k / type.columns)) + " has a scale that is not finite");
    nonzeros += type.columns - zeros;
  }
  return nonzeros;
}

}  // namespace

WeightSource::WeightSource(std::int64_t k) : k_(k) {
  if (k < 1) throw ShapeError("weight: expected at least 1 column, got " + std::to_string(k));
}

void WeightSource::add(const std::string& name, Part part, std::int64_t values) {
  if (part.rows < 1) throw ShapeError(name + ": expected at least 1 row, got " + std::to_string(part.rows));
  if ((part.q8 != nullptr) + (part.bf16 != nullptr) + (part.f16 != nullptr) + (part.f32 != nullptr) + (part.index != nullptr) + (part.blocks != nullptr) != 1)
    throw DataError(name + ": expected either float, bf16 or f16 values or int8 codes, or indices, or blocks");
  const bool codes = part.q8 != nullptr || part.index != nullptr;
  const Kind kind = part.f32 != nullptr ? Kind::f32 : part.bf16 != nullptr ? Kind::bf16 : part.f16 != nullptr ? Kind::f16
                    : part.blocks != nullptr ? Kind::blocks
                    : part.q8 != nullptr && part.group != 0 ? Kind::grouped : Kind::q8;
  if (!parts_.empty() && (kind != kind_ || (kind == Kind::grouped && part.group != group_)))
    throw DataError(name + ": stacked weights must all be float, all bf16, all f16, all int8 or all blocks, and all with scales of rows or of equal groups");
  if (codes && part.scale == nullptr) throw DataError(name + ": int8 codes need a scale per row");
  if (codes && k_ > kMaxQuantizedK)
    throw ShapeError(name + ": at most " + std::to_string(kMaxQuantizedK) + " columns keep int32 sums exact, got " +
                     std::to_string(k_));
  if (part.group < 0 || part.group % 8 != 0)
    throw ShapeError(name + ": expected groups of a multiple of 8 columns, got " + std::to_string(part.group));
  if (part.group != 0 && !codes) throw DataError(name + ": float values have no groups");
  if (part.index == nullptr && (part.multiplier != nullptr || part.zero != nullptr || part.offset != nullptr || !part.levels.empty()))
    throw DataError(name + ": levels, multipliers, zero points and offsets go with indices");

  std::int64_t expected = part.rows * k_;
  if (part.blocks != nullptr) expected = check_blocks(name, part, k_);
  if (part.index != nullptr) {
    check_table(name, part);
    expected = part.rows * index_bytes(part, k_);
  }
  if (part.mask != nullptr) {
    expected = count_stored(name, part, k_);
    if (part.index != nullptr) expected = index_bytes(part, expected);
  }
  if (values != expected)
    throw DataError(name + ": expected " + std::to_string(expected) + (part.blocks != nullptr ? " bytes of blocks" : part.index == nullptr ? " stored values" : " bytes of indices") +
                    ", got " + std::to_string(values));

  if (part.blocks != nullptr) nonzeros_ += check_block_values(name, part, k_);
  if (codes) check_scales(name, part, k_);
  if (part.index != nullptr) nonzeros_ += check_indices(name, part, k_);
  if (part.q8 != nullptr) nonzeros_ += check_codes(name, part.q8, values);
  if (part.bf16 != nullptr) nonzeros_ += check_finite(name, part.bf16, values, bf16_to_float);
  if (part.f16 != nullptr) nonzeros_ += check_finite(name, part.f16, values, f16_to_float);
  if (part.f32 != nullptr) nonzeros_ += check_finite(name, part.f32, values, kAsItIs);
  kind_ = kind;
  group_ = part.group;
  n_ += part.rows;
  parts_.push_back(std::move(part));
}

const char* WeightSource::numbers() const {
  switch (kind_) {
    case Kind::q8: return "int8";
    case Kind::grouped: return "int8g";
    case Kind::bf16: return "bf16";
    case Kind::f16: return "float16";
    case Kind::blocks: return "blocks";
    case Kind::f32: return "float32";
  }
  return "";
}

bool WeightSource::four_bit() const {
  return !parts_.empty() && std::all_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.index != nullptr && part.levels.size() <= 16; });
}

double WeightSource::sparsity() const {
  return n_ == 0 ? 0.0 : 1.0 - static_cast<double>(nonzeros_) / (static_cast<double>(n_) * static_cast<double>(k_));
}

// What packs or looks at weights goes through here row by row: the place to end that early.
const WeightSource::Part& WeightSource::part_of(std::int64_t n, std::int64_t* row) const {
  if (n % 16 == 0) stop_if_requested();
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
  if (part.q8 != nullptr) return decode(part, part.q8, r, k_, out, [](std::int8_t code) { return code; });
  if (part.mask != nullptr) std::fill(out, out + k_, std::int8_t{0});
  walk_codes(part, part.levels.data(), r, k_,
             [out](std::int64_t column, int, std::int32_t code) { out[column] = static_cast<std::int8_t>(code); });
}

void WeightSource::row_q8g(std::int64_t n, std::int8_t* codes, float* scales) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  const std::int64_t groups = groups_of(part, k_);
  decode(part, part.q8, r, k_, codes, [](std::int8_t code) { return code; });
  std::copy(part.scale + r * groups, part.scale + (r + 1) * groups, scales);
}

WeightSource::RowQ4 WeightSource::row_q4(std::int64_t n, std::uint8_t* index) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  const std::int64_t groups = groups_of(part, k_);
  if (part.mask != nullptr) std::fill(index, index + k_, kNotStored);
  walk(part, r, k_, [](std::int64_t) {}, [index](std::int64_t column, std::uint8_t stored) { index[column] = stored; });
  return {part.levels.data(), static_cast<int>(part.levels.size()), part.group == 0 ? k_ : part.group,
          part.multiplier == nullptr ? nullptr : part.multiplier + r * groups, part.zero == nullptr ? nullptr : part.zero + r * groups,
          part.offset == nullptr ? nullptr : part.offset + r * groups, part.scale[r]};
}

const std::uint8_t* WeightSource::row_blocks(std::int64_t n, const BlockType** type) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  *type = part.block_type;
  return part.blocks + r * (k_ / part.block_type->columns) * part.block_type->bytes;
}

void WeightSource::row_bf16(std::int64_t n, std::uint16_t* out) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  if (part.bf16 != nullptr) return decode(part, part.bf16, r, k_, out, [](std::uint16_t code) { return code; });
  std::vector<float> row(static_cast<std::size_t>(k_));
  row_f32(n, row.data());
  for (std::int64_t i = 0; i < k_; ++i) out[i] = bf16_from_float(row[static_cast<std::size_t>(i)]);
}

void WeightSource::row_f16(std::int64_t n, std::uint16_t* out) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  decode(part, part.f16, r, k_, out, [](std::uint16_t code) { return code; });
}

void WeightSource::row_f32(std::int64_t n, float* out) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  if (part.f32 != nullptr) return decode(part, part.f32, r, k_, out, kAsItIs);
  if (part.bf16 != nullptr) return decode(part, part.bf16, r, k_, out, bf16_to_float);
  if (part.f16 != nullptr) return decode(part, part.f16, r, k_, out, f16_to_float);
  if (part.blocks != nullptr) {
    const BlockType& type = *part.block_type;
    const std::uint8_t* blocks = part.blocks + r * (k_ / type.columns) * type.bytes;
    for (std::int64_t i = 0; i < k_; i += type.columns, blocks += type.bytes) decode_block(type, blocks, out + i);
    return;
  }
  if (part.q8 == nullptr) {
    if (part.mask != nullptr) std::fill(out, out + k_, 0.0f);
    const float scale = part.scale[r];
    return walk_codes(part, part.levels.data(), r, k_,
                      [out, scale](std::int64_t column, int, std::int32_t code) { out[column] = static_cast<float>(code) * scale; });
  }
  decode(part, part.q8, r, k_, out, [](std::int8_t code) { return static_cast<float>(code); });
  const std::int64_t groups = groups_of(part, k_), width = part.group == 0 ? k_ : part.group;
  for (std::int64_t i = 0; i < k_; ++i) out[i] *= part.scale[r * groups + i / width];
}

float WeightSource::scale(std::int64_t n) const {
  std::int64_t r = 0;
  const Part& part = part_of(n, &r);
  return part.scale[r];
}

}  // namespace aerogel
