// Blocks of quantized weights as GGUF files store them, taken apart.
//
// Whatever the type, a block is codes of a few bits, and a scale and perhaps a minimum for each group of 16 or 32 columns:
//
//     w = scale * (code - zero) + min                 scale * level[code] where codes are indices of a table
//
//     scale    the number in the block, a float16 (MXFP4: a power of two); times the group's own small integer where it has one
//     min      a float16, or -(another float16 * the group's own small integer)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace aerogel {

struct BlockType {
  const char* name;            // as ggml calls it, "Q4_K"
  int columns;                 // of a block: 32 or 256
  int bytes;                   // of a block
  int bits;                    // of a code: 2, 3, 4, 5, 6 or 8
  int zero;                    // what is taken off a code
  int group;                   // columns that share a scale: 16 or 32
  bool subscales;              // groups have small integers; else a block is one group
  bool mins;
  bool bf16;                   // the scale is a bf16 here, else a float16
  const std::int8_t* levels;   // [16], or null
  int id;                      // ggml's number

  int groups() const { return columns / group; }
};

struct UnpackedBlock {
  std::uint8_t code[256];
  std::uint16_t scale;         // float16 or bf16 bits
  std::uint16_t min;           // float16 bits, 0 without
  std::int8_t sub[16];         // of each group; 1 without
  std::uint8_t submin[16];
};

const std::vector<BlockType>& all_block_types();

// By ggml's name; null if there is none.
const BlockType* block_type(const std::string& name);

// "Q4_0, Q4_1, ..."
std::string block_type_names();

void unpack_block(const BlockType& type, const std::uint8_t* bytes, UnpackedBlock* out);

// What a group's codes are multiplied by, and what is added.
float block_scale(const BlockType& type, const UnpackedBlock& block, int group);
float block_min(const BlockType& type, const UnpackedBlock& block, int group);

// A block's weights: the values that ggml's own decoder gives, bit for bit.
void decode_block(const BlockType& type, const std::uint8_t* bytes, float* out);

}  // namespace aerogel
