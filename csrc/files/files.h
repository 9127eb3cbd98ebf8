// What the standard library of C++ cannot do with files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// Reads up to `bytes` bytes of an open file from `offset` on; fewer only where the file ends. With `crc`, that is also
// carried on over what was read (crc32c.h), while it is in the caches. Throws std::system_error.
std::size_t read_at(int file, std::uint64_t offset, std::uint8_t* out, std::size_t bytes, std::uint32_t* crc);

// Lets two names, which must exist, take each other's place in one step. False where the system or the file system cannot;
// nothing was done then. Throws std::system_error for everything else.
bool exchange_names(const char* a, const char* b);

}  // namespace aerogel
