// The loop of CRC-32C where the CPU has an instruction for it. A kernel file includes only this.
//
// The instruction takes 3 cycles and one can begin in each, so three parts of the data are taken side by side. A checksum is
// linear: that of A followed by B is that of A followed by as many zeros as B has bytes, XOR that of B from zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace aerogel {

constexpr std::size_t kCrcPart = 1024;  // bytes of a part: long enough that joining costs little, short enough for small tensors

// after[i][b]: the state after kCrcPart zeros, if byte i of it was b and the others 0.
struct CrcZeros {
  std::uint32_t after[4][256];
};

inline std::uint32_t crc_after_zeros(const CrcZeros& zeros, std::uint32_t state) {
  return zeros.after[0][state & 0xff] ^ zeros.after[1][state >> 8 & 0xff] ^ zeros.after[2][state >> 16 & 0xff] ^
         zeros.after[3][state >> 24];
}

// Step8 and Step1: the state after 8 bytes, the first one lowest, and after one.
template <class Step8, class Step1>
inline __attribute__((always_inline)) std::uint32_t crc_run(std::uint32_t state, const std::uint8_t* data, std::size_t bytes,
                                                            const CrcZeros& zeros, Step8 step8, Step1 step1) {
  const auto word = [](const std::uint8_t* at) __attribute__((always_inline)) {
    std::uint64_t value;
    std::memcpy(&value, at, sizeof value);  // every CPU with such an instruction is little endian
    return value;
  };
  for (; bytes >= 3 * kCrcPart; data += 3 * kCrcPart, bytes -= 3 * kCrcPart) {
    std::uint32_t second = 0, third = 0;
    for (std::size_t at = 0; at < kCrcPart; at += 8) {
      state = step8(state, word(data + at));
      second = step8(second, word(data + kCrcPart + at));
      third = step8(third, word(data + 2 * kCrcPart + at));
    }
    state = crc_after_zeros(zeros, crc_after_zeros(zeros, state) ^ second) ^ third;
  }
  for (; bytes >= 8; data += 8, bytes -= 8) state = step8(state, word(data));
  for (; bytes > 0; ++data, --bytes) state = step1(state, *data);
  return state;
}

std::uint32_t crc32c_avx2(std::uint32_t state, const std::uint8_t* data, std::size_t bytes, const CrcZeros& zeros);
std::uint32_t crc32c_neondot(std::uint32_t state, const std::uint8_t* data, std::size_t bytes, const CrcZeros& zeros);

}  // namespace aerogel
