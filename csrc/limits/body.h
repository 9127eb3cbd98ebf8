// Bare multiply-add loops and reads. What an instruction set does in them is its struct in limits/<isa>.cpp:
//     int8(sum, a, b)    one round of int8 multiply-adds of a and b, macs of them, added to the 32-bit lanes of sum
//     fp32(sum, a, b)    sum += a * b
// both in volatile assembly: equal sums over constants would be merged into one.
#pragma once

#include <utility>

#include "limits/limits.h"

namespace aerogel {
namespace {

// int8_sums independent ones hide the latency. Each 32-bit lane has counted its share of the multiply-adds: the result of the loop is
// its own proof, modulo 2^32 on very long runs. Sums are written out, one for each j: a loop over them would keep them in memory.
template <class Isa, std::size_t... j>
std::int64_t peak_int8(std::int64_t rounds, std::index_sequence<j...>) {
  constexpr std::int64_t lanes = sizeof(typename Isa::Sum) / 4, macs = Isa::int8_sums * Isa::int8_macs;
  const typename Isa::Factor a = Isa::ones();
  typename Isa::Sum s[] = {(static_cast<void>(j), typename Isa::Sum{})...};
  for (std::int64_t i = 0; i < rounds; ++i) (Isa::int8(s[j], a, a), ...);
  const typename Isa::Sum sums[] = {s[j]...};
  std::uint32_t total = 0, counted[lanes];
  for (const auto& each : sums) {
    __builtin_memcpy(counted, &each, sizeof each);
    total += counted[0];
  }
  return total == static_cast<std::uint32_t>(macs / lanes * rounds) ? macs * rounds : 0;
}

template <class Isa, std::size_t... j>
std::int64_t peak_fp32(std::int64_t rounds, std::index_sequence<j...>) {
  constexpr std::int64_t lanes = sizeof(typename Isa::Floats) / sizeof(float);
  const typename Isa::Floats a{}, b = a + 1.0f;
  typename Isa::Floats s[] = {(static_cast<void>(j), a)...};
  for (std::int64_t i = 0; i < rounds; ++i) (Isa::fp32(s[j], a, b), ...);
  const typename Isa::Floats total = (s[j] + ...);
  return total[0] == 0.0f ? Isa::fp32_sums * lanes * rounds : 0;
}

// One pass in chunks; prefetching 4 KB ahead, where it is done, is what the kernels that stream do too.
template <class Isa>
std::int64_t read(const void* data, std::size_t bytes) {
  using Word = typename Isa::Word;
  const char* at = static_cast<const char*>(data);
  const char* const end = at + bytes;
  Word s[4] = {};
  for (; at != end; at += Isa::chunk) {
    if (Isa::prefetch) {
#pragma GCC unroll 16
      for (int line = 0; line < Isa::chunk; line += 64) __builtin_prefetch(at + 4096 + line);
    }
#pragma GCC unroll 16
    for (int j = 0; j < Isa::chunk / static_cast<int>(sizeof(Word)); ++j) s[j % 4] |= reinterpret_cast<const Word*>(at)[j];
  }
  const Word all = (s[0] | s[1]) | (s[2] | s[3]);
  std::uint64_t words[sizeof(Word) / 8], any = 0;
  __builtin_memcpy(words, &all, sizeof all);
  for (const std::uint64_t each : words) any |= each;
  return any == 0;
}

}  // namespace
}  // namespace aerogel
