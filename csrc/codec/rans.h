// Method 0 of codec.h: bytes with order-0 rANS in chunks that decode by themselves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/step.h"
#include "isa/isa.h"

namespace aerogel {

// Appends the coded form of n bytes.
void encode_rans(const std::uint8_t* data, std::int64_t n, std::vector<std::uint8_t>& out);

// How many bytes it would append, but for some tens.
std::int64_t rans_bytes(const std::uint8_t* data, std::int64_t n);

// A coded form that was found to fit its place: every length is checked, the states and words are not yet.
struct RansBody {
  std::int64_t n, chunk, chunks;
  const std::uint8_t* counts;  // words of each chunk, u32
  const std::uint8_t* states;
  const std::uint8_t* words;
  const std::uint8_t* end;
  std::vector<std::uint32_t> table;  // as RansSteps reads it
};

// Parses what begins at `data` and stands for n symbols. Throws DataError, with `name`. Allocates nothing that grows with n.
RansBody parse_rans(const std::string& name, const std::uint8_t* data, std::size_t bytes, std::int64_t n);

// The kernel of an instruction set.
RansSteps rans_steps(Isa isa);

// Chunks are decoded a group of kRansChunks at a time. Returns whether every state ended as it must and all words were read.
std::int64_t rans_groups(const RansBody& body);
bool decode_rans(const RansBody& body, RansSteps steps, std::int64_t group, std::uint8_t* out) noexcept;

}  // namespace aerogel
