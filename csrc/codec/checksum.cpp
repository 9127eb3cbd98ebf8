#include "codec/checksum.h"

#include <cstring>

#include "codec/bits.h"

namespace aerogel {
namespace {

constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 divided by the golden ratio

std::uint64_t mix(std::uint64_t state, std::uint64_t word) {
  const std::uint64_t product = (state ^ word) * kOdd;
  return product << 29 | product >> 35;
}

}  // namespace

std::uint64_t checksum(std::uint64_t seed, const std::uint8_t* data, std::size_t bytes) {
  std::uint64_t lanes[4] = {seed, seed + kOdd, seed + 2 * kOdd, seed + 3 * kOdd};
  std::size_t at = 0;
  for (; at + 32 <= bytes; at += 32)
    for (int i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], load_le<std::uint64_t>(data + at + 8 * static_cast<std::size_t>(i)));
  if (at < bytes) {
    std::uint8_t rest[32] = {};
    std::memcpy(rest, data + at, bytes - at);
    for (int i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], load_le<std::uint64_t>(rest + 8 * static_cast<std::size_t>(i)));
  }
  std::uint64_t result = mix(seed, bytes);
  for (std::uint64_t lane : lanes) result = mix(result, lane ^ lane >> 32);
  return result ^ result >> 32;
}

}  // namespace aerogel
