#include <immintrin.h>

#include "files/crc32c_body.h"

namespace aerogel {

// The instruction is of SSE4.2, which every CPU with AVX2 has.
std::uint32_t crc32c_avx2(std::uint32_t state, const std::uint8_t* data, std::size_t bytes, const CrcZeros& zeros) {
  return crc_run(
      state, data, bytes, zeros,
      [](std::uint32_t s, std::uint64_t w) { return static_cast<std::uint32_t>(_mm_crc32_u64(s, w)); },
      [](std::uint32_t s, std::uint8_t b) { return _mm_crc32_u8(s, b); });
}

}  // namespace aerogel
