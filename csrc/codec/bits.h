// Little-endian numbers and streams of bits, least significant first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace aerogel {

template <class Int>
Int load_le(const std::uint8_t* bytes) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  Int value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
#else
  Int value = 0;
  for (std::size_t i = 0; i < sizeof(Int); ++i) value = static_cast<Int>(value | static_cast<Int>(bytes[i]) << (8 * i));
  return value;
#endif
}

template <class Int>
void append_le(std::vector<std::uint8_t>& out, Int value) {
  for (std::size_t i = 0; i < sizeof(Int); ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

class BitWriter {
 public:
  explicit BitWriter(std::vector<std::uint8_t>& out) : out_(out) {}
  // The lower `width` <= 64 bits of value.
  void put(std::uint64_t value, int width) {
    while (width > 0) {
      if (used_ == 0) out_.push_back(0);
      const int taken = width < 8 - used_ ? width : 8 - used_;
      out_.back() = static_cast<std::uint8_t>(out_.back() | (value & ((1u << taken) - 1)) << used_);
      used_ = (used_ + taken) % 8;
      value >>= taken;
      width -= taken;
    }
  }

 private:
  std::vector<std::uint8_t>& out_;
  int used_ = 0;  // bits of the last byte; 0: it is full
};

// Reads bits in [data, data + bytes); beyond them it returns 0 and good() is false from then on.
class BitReader {
 public:
  BitReader(const std::uint8_t* data, std::size_t bytes) : data_(data), bits_(8 * bytes) {}
  std::uint64_t get(int width) {
    if (static_cast<std::size_t>(width) > bits_ - at_) {
      at_ = bits_;
      good_ = false;
      return 0;
    }
    std::uint64_t value = 0;
    for (int got = 0; got < width;) {
      const int skip = static_cast<int>(at_ % 8), taken = width - got < 8 - skip ? width - got : 8 - skip;
      value |= static_cast<std::uint64_t>(data_[at_ / 8] >> skip & ((1u << taken) - 1)) << got;
      got += taken;
      at_ += static_cast<std::size_t>(taken);
    }
    return value;
  }
  bool good() const { return good_; }
  std::size_t bytes() const { return (at_ + 7) / 8; }  // begun so far
  // Whether the bits left of the last byte are 0.
  bool rest_is_zero() const { return at_ % 8 == 0 || data_[at_ / 8] >> at_ % 8 == 0; }

 private:
  const std::uint8_t* data_;
  std::size_t bits_, at_ = 0;
  bool good_ = true;
};

}  // namespace aerogel
