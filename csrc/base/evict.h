// Throwing memory out of the caches, to time what then comes from DRAM.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace aerogel {

// Afterwards no cache of any core holds the bytes. Elsewhere than on x86-64 and 64-bit Arm nothing happens.
inline void evict([[maybe_unused]] const void* data, [[maybe_unused]] std::size_t size) {
  [[maybe_unused]] const char* const bytes = static_cast<const char*>(data);
#if defined(__x86_64__)
  for (std::size_t i = 0; i < size; i += kCacheLine) _mm_clflush(bytes + i);
  _mm_mfence();
#elif defined(__aarch64__)
  // Cache lines have at least 16 bytes; Linux and macOS let programs do this.
  for (std::size_t i = 0; i < size; i += 16) asm volatile("dc civac, %0" : : "r"(bytes + i) : "memory");
  asm volatile("dsb ish" : : : "memory");
#endif
}

}  // namespace aerogel
