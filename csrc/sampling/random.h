// Random numbers by their place: the n-th of a seed is the same on every machine, whatever was drawn before it.
#pragma once

#include <array>
#include <cstdint>

namespace aerogel {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011).
inline std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0], b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

// Number `place` of `seed`: from 0 to below 1, 53 bits.
inline double uniform(std::uint64_t seed, std::uint64_t place) {
  const auto word = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto bits = philox({word(place), word(place >> 32), 0, 0}, {word(seed), word(seed >> 32)});
  return static_cast<double>((std::uint64_t{bits[0]} << 32 | bits[1]) >> 11) * 0x1p-53;
}

}  // namespace aerogel
