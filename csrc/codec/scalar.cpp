#include "codec/bits.h"
#include "codec/step.h"

namespace aerogel {
namespace {

// The states of one chunk stay in registers. 12 instructions a symbol, no branch.
void steps_of(const std::uint32_t* table, RansChunk& chunk, std::int64_t steps) {
  const std::uint8_t* words = chunk.words;
  std::uint8_t* out = chunk.out;
  std::uint32_t state[kRansLanes];
  for (int lane = 0; lane < kRansLanes; ++lane) state[lane] = chunk.state[lane];
  for (std::int64_t step = 0; step < steps; ++step, out += kRansLanes) {
    for (int lane = 0; lane < kRansLanes; ++lane) {
      const std::uint32_t entry = table[state[lane] & (kRansTotal - 1)];
      const std::uint32_t x = (entry >> 20) * (state[lane] >> kRansBits) + (entry >> 8 & (kRansTotal - 1));
      // By arithmetic: as a branch, which compilers make of a choice, it would be mispredicted half the time.
      const std::uint32_t low = x < kRansLow;
      state[lane] = x << 16 * low | (load_le<std::uint16_t>(words) & (0 - low));
      words += 2 * low;
      out[lane] = static_cast<std::uint8_t>(entry);
    }
  }
  for (int lane = 0; lane < kRansLanes; ++lane) chunk.state[lane] = state[lane];
  chunk.words = words;
  chunk.out = out;
}

}  // namespace

void rans_steps_scalar(const std::uint32_t* table, RansChunk* const* chunks, int count, std::int64_t steps) {
  for (int i = 0; i < count; ++i) steps_of(table, *chunks[i], steps);
}

}  // namespace aerogel
