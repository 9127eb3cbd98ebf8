// 64-bit words by how many bits they have set, and their place among all that have as many.
//
// The order: first by the bits in the lower 32, then by the place of the lower 32 among their kind, then by that of the
// upper 32. Words of 32 bits are ordered alike by their halves, words of 16 by their value.
#pragma once

#include <cstdint>

namespace aerogel {

// C(64, bits), bits in [0, 64].
std::uint64_t windows_with(int bits);

// ceil(log2(C(64, bits))): what a place takes. At most 61.
int window_width(int bits);

// The place of a word, in [0, C(64, bits set in it)).
std::uint64_t window_place(std::uint64_t word);

// The word at a place in [0, C(64, bits)).
std::uint64_t window_at(int bits, std::uint64_t place);

}  // namespace aerogel
