// CRC-32C (Castagnoli; RFC 3720, appendix B.4), the checksum of the tensors of a packed model. Any change within 32 bits in a
// row changes it for certain, so a damaged byte is always found. It finds faults, not forgers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"

namespace aerogel {

// The checksum of what `crc` is the checksum of, followed by `data`; 0 for nothing. The same on every instruction set.
std::uint32_t crc32c(std::uint32_t crc, const std::uint8_t* data, std::size_t bytes, Isa isa = active_isa());

}  // namespace aerogel
