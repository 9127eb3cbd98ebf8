// The compressed form of a byte tensor ("small"): an entropy coder for bit masks, int8 codes, packed nibbles and indices.
//
// All numbers are little endian. A blob describes itself:
//
//     byte 0        4 bytes   "aes" and the version, 1
//          4        1 byte    dtype: 0 U8, 1 I8
//          5        1 byte    R: each coded row stands for R equal rows in a row (1, or 2 to 4 where there are 2 dimensions)
//          6        1 byte    D: number of dimensions, 0 to 8
//          7        1 byte    method: 0 bytes, 1 windows
//          8        8 bytes   checksum of the 8 bytes before, the dimensions and the decoded bytes (checksum.h)
//         16        8 D bytes dimensions
//         16 + 8 D            body; it ends where the blob ends
//
// Method 0, bytes: order-0 rANS over n symbols, cut in chunks of C (the last one shorter), each decoded by itself:
//
//     | C u32 | frequencies | words of chunk 0, 1, ... u32 each | states of chunk 0, 1, ... 8 u32 each | words of chunk 0, 1, ... u16 each |
//
//     symbol of a chunk   0 1 2 3 4 5 6 7 | 8 9 ...        eight states take turns; one stream of words serves them
//     state that codes it 0 1 2 3 4 5 6 7 | 0 1 ...
//
//     slot = x mod 4096        the symbol s is the one with start[s] <= slot < start[s] + f[s]; the f sum up to 4096
//     x    = f[s] * (x / 4096) + slot - start[s]
//     x    = x * 65536 + the next word, if x < 65536
//
//   A state begins as the file says, and ends at 65536, with all words read: anything else is an error. Frequencies are
//   written in one of three ways, told by their first byte (frequencies.h).
//
// Method 1, windows (U8, rows of whole 64-bit windows): how many bits are set in each window of 8 bytes, coded as in method 0,
// then for each window its place among the 64-bit words with as many bits, in ceil(log2(C(64, bits))) bits, least
// significant first, without gaps (windows.h). Near the entropy of q:64 patterns, which bytes on their own do not see.
//
// The coder computes with integers only: the same tensor gives the same blob on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "isa/isa.h"

namespace aerogel {

enum class ByteType : std::uint8_t { u8 = 0, i8 = 1 };

// What a blob says about itself.
struct CodedHeader {
  ByteType dtype;
  int repeat, method;
  std::vector<std::int64_t> shape;
  std::int64_t size;             // bytes decoded: the product of the shape
  std::int64_t coded_rows, row;  // what the body holds, after rows were taken together: coded_rows * row bytes
  std::size_t body;              // where the body begins
  std::uint64_t checksum;
};

// No blob decodes to more than this many times its size: so a wrong shape never makes a reader allocate at will.
constexpr std::int64_t kMaxExpansion = 4096;

// No header is longer.
constexpr std::size_t kMostHeader = 16 + 8 * 8;

// The blob of a tensor, or an empty vector where it would not be smaller than the tensor.
std::vector<std::uint8_t> encode_bytes(ByteType dtype, const std::vector<std::int64_t>& shape, const std::uint8_t* data);

// Checks and reads the header of a blob of `bytes` bytes, of which min(bytes, kMostHeader) must be there. Throws DataError,
// with `name`.
CodedHeader coded_header(const std::string& name, const std::uint8_t* blob, std::size_t bytes);

// Decodes into out[header.size] on up to `threads` threads. Throws DataError, with `name`, if anything is amiss; `out` holds
// garbage then. Reads inside the blob and writes inside `out` whatever the blob holds.
void decode_bytes(const std::string& name, const CodedHeader& header, const std::uint8_t* blob, std::size_t bytes,
                  std::uint8_t* out, int threads = 1, Isa isa = active_isa());

}  // namespace aerogel
