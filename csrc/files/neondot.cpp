#include <arm_acle.h>

#include "files/crc32c_body.h"

namespace aerogel {

// The instruction is optional in ARMv8.0 and part of 8.1: every CPU with dot products has it.
std::uint32_t crc32c_neondot(std::uint32_t state, const std::uint8_t* data, std::size_t bytes, const CrcZeros& zeros) {
  return crc_run(
      state, data, bytes, zeros, [](std::uint32_t s, std::uint64_t w) { return __crc32cd(s, w); },
      [](std::uint32_t s, std::uint8_t b) { return __crc32cb(s, b); });
}

}  // namespace aerogel
