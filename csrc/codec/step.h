// The inner loop of the decoder. A kernel file includes only this.
//
// Eight states of a chunk on the eight lanes of a register; up to four chunks at once hide the latency of the table lookup.
#pragma once

#include <cstdint>

namespace aerogel {

constexpr int kRansBits = 12;
constexpr std::uint32_t kRansTotal = 1u << kRansBits;
constexpr std::uint32_t kRansLow = 1u << 16;  // states are in [kRansLow, 2^32)
constexpr int kRansLanes = 8;
constexpr int kRansChunks = 4;

// One chunk while it is decoded.
struct RansChunk {
  const std::uint8_t* words;  // the next word
  const std::uint8_t* end;    // of the chunk's words
  std::uint8_t* out;          // the next symbol
  std::int64_t left;          // symbols to come
  std::uint32_t state[kRansLanes];
};

// Decodes `steps` times 8 symbols of each of `count` <= 4 chunks, which must have so many left and 8 words for each step.
// table[slot] is f << 20 | (slot - start) << 8 | symbol. Advances words, out and state, not left.
using RansSteps = void (*)(const std::uint32_t* table, RansChunk* const* chunks, int count, std::int64_t steps);

void rans_steps_scalar(const std::uint32_t* table, RansChunk* const* chunks, int count, std::int64_t steps);
void rans_steps_avx2(const std::uint32_t* table, RansChunk* const* chunks, int count, std::int64_t steps);

}  // namespace aerogel
