// The frequencies of the 256 symbols: each at most 4095, all together 4096. In a blob they stand as bits, least significant
// first, filled up to a whole byte with 0:
//
//     2 bits  kind      0 range, 1 set, 2 popcount
//     4 bits  r         for range and set
//     2 bits  0
//     range     first and last symbol, 8 bits each, in the order of signed bytes, and the frequency of each from first to last
//     set       256 bits, bit s: symbol s occurs; and the frequency of each that does, by rising s
//     popcount  9 times 13 bits, F[p] of all symbols with p bits set together. Each of them gets F[p] / C(8,p), rounded down,
//               and the first F[p] mod C(8,p) of them one more
//
// Of range and set a frequency stands as the difference to the one before it (0 before the first): d >= 0 as z = 2 d, d < 0
// as z = -2 d - 1; z as z / 2^r ones, a zero, and r bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aerogel {

using Counts = std::array<std::uint64_t, 256>;
using Frequencies = std::array<std::uint16_t, 256>;

// What the encoder takes for symbols with these counts, at least one of which is not 0.
struct ChosenFrequencies {
  Frequencies frequencies;
  std::vector<std::uint8_t> text;  // as it stands in the blob
  std::uint64_t bits;              // that the symbols will take, nearly
};
ChosenFrequencies choose_frequencies(const Counts& counts);

// Reads what stands at the beginning of [data, data + bytes) and returns its length. Throws DataError, with `name`.
std::size_t read_frequencies(const std::string& name, const std::uint8_t* data, std::size_t bytes, Frequencies& frequencies);

}  // namespace aerogel
