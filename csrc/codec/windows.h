// 64-bit words by how many bits they have set, and their place among all that have as many.
//
// The order: first by the bits in the lower 32, then by the place of the lower 32 among their kind, then by that of the
// upper 32. Words of 32 bits are ordered alike by their halves, words of 16 by their value.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// C(64, bits), bits in [0, 64].
std::uint64_t windows_with(int bits);

// ceil(log2(C(64, bits))): what a place takes. At most 61.
int window_width(int bits);

// The bits that the places of all windows take, whose numbers of bits set are bits[count], each at most 64.
std::uint64_t places_width(const std::uint8_t* bits, std::int64_t count);

// Reads `count` places from bit `at` of places[bytes] on, which hold as many bits, and writes their words to out[8 * count].
// Returns false if one of them is beyond the last of its kind.
bool read_windows(const std::uint8_t* bits, std::int64_t count, const std::uint8_t* places, std::size_t bytes, std::uint64_t at,
                  std::uint8_t* out) noexcept;

// The place of a word, in [0, C(64, bits set in it)).
std::uint64_t window_place(std::uint64_t word);

// The word at a place in [0, C(64, bits)).
std::uint64_t window_at(int bits, std::uint64_t place);

}  // namespace aerogel
