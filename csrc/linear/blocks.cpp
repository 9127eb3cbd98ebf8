#include "linear/blocks.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/bf16.h"
#include "base/f16.h"

namespace aerogel {
namespace {

constexpr std::int8_t kNormal4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice what the four bits of a float with two of exponent and one of fraction say.
constexpr std::int8_t kFloat4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

//   name   columns bytes bits zero group subscales mins bf16 levels id
constexpr BlockType kTypes[] = {
    {"Q4_0", 32, 18, 4, 8, 32, false, false, false, nullptr, 2},
    {"Q4_1", 32, 20, 4, 0, 32, false, true, false, nullptr, 3},
    {"Q5_0", 32, 22, 5, 16, 32, false, false, false, nullptr, 6},
    {"Q5_1", 32, 24, 5, 0, 32, false, true, false, nullptr, 7},
    {"Q8_0", 32, 34, 8, 128, 32, false, false, false, nullptr, 8},
    {"Q2_K", 256, 84, 2, 0, 16, true, true, false, nullptr, 10},
    {"Q3_K", 256, 110, 3, 4, 16, true, false, false, nullptr, 11},
    {"Q4_K", 256, 144, 4, 0, 32, true, true, false, nullptr, 12},
    {"Q5_K", 256, 176, 5, 0, 32, true, true, false, nullptr, 13},
    {"Q6_K", 256, 210, 6, 32, 16, true, false, false, nullptr, 14},
    {"IQ4_NL", 32, 18, 4, 0, 32, false, false, false, kNormal4, 20},
    {"IQ4_XS", 256, 136, 4, 0, 32, true, false, false, kNormal4, 23},
    {"MXFP4", 32, 17, 4, 0, 32, false, false, true, kFloat4, 39},
};

std::uint16_t word(const std::uint8_t* at) { return static_cast<std::uint16_t>(at[0] | at[1] << 8); }

// 16 bytes: the first half of 32 codes in the low nibbles, the second in the high ones.
void nibbles(const std::uint8_t* bytes, std::uint8_t* code) {
  for (int i = 0; i < 16; ++i) {
    code[i] = bytes[i] & 15;
    code[i + 16] = bytes[i] >> 4;
  }
}

void fifth_bits(const std::uint8_t* bits, std::uint8_t* code) {
  for (int i = 0; i < 32; ++i) code[i] = static_cast<std::uint8_t>(code[i] | (bits[i / 8] >> (i % 8) & 1) << 4);
}

// Of Q4_K and Q5_K: eight pairs of 6 bits in 12 bytes.
void six_bit_pairs(const std::uint8_t* bytes, UnpackedBlock* out) {
  for (int g = 0; g < 4; ++g) {
    out->sub[g] = static_cast<std::int8_t>(bytes[g] & 63);
    out->submin[g] = bytes[g + 4] & 63;
    out->sub[g + 4] = static_cast<std::int8_t>((bytes[g + 8] & 15) | (bytes[g] >> 6) << 4);
    out->submin[g + 4] = static_cast<std::uint8_t>(bytes[g + 8] >> 4 | (bytes[g + 4] >> 6) << 4);
  }
}

// Two bits each: 32 bytes are four runs of 32 codes.
void two_bits(const std::uint8_t* bytes, std::uint8_t* code) {
  for (int half = 0; half < 2; ++half)
    for (int run = 0; run < 4; ++run)
      for (int i = 0; i < 32; ++i) code[128 * half + 32 * run + i] = bytes[32 * half + i] >> (2 * run) & 3;
}

void unpack_q4_k(const std::uint8_t* at, UnpackedBlock* out) {
  six_bit_pairs(at + 4, out);
  for (int run = 0; run < 4; ++run)
    for (int i = 0; i < 32; ++i) {
      out->code[64 * run + i] = at[16 + 32 * run + i] & 15;
      out->code[64 * run + 32 + i] = at[16 + 32 * run + i] >> 4;
    }
}

void unpack_q5_k(const std::uint8_t* at, UnpackedBlock* out) {
  six_bit_pairs(at + 4, out);
  const std::uint8_t *high = at + 16, *low = at + 48;
  for (int run = 0; run < 4; ++run)
    for (int i = 0; i < 32; ++i) {
      const int both = low[32 * run + i];
      out->code[64 * run + i] = static_cast<std::uint8_t>((both & 15) | (high[i] >> (2 * run) & 1) << 4);
      out->code[64 * run + 32 + i] = static_cast<std::uint8_t>(both >> 4 | (high[i] >> (2 * run + 1) & 1) << 4);
    }
}

void unpack_q6_k(const std::uint8_t* at, UnpackedBlock* out) {
  const std::uint8_t *low = at, *high = at + 128;
  for (int half = 0; half < 2; ++half, low += 64, high += 32)
    for (int i = 0; i < 32; ++i) {
      std::uint8_t* const code = out->code + 128 * half + i;
      for (int run = 0; run < 4; ++run) {
        const int nibble = run < 2 ? low[32 * run + i] & 15 : low[32 * (run - 2) + i] >> 4;
        code[32 * run] = static_cast<std::uint8_t>(nibble | (high[i] >> (2 * run) & 3) << 4);
      }
    }
  std::memcpy(out->sub, at + 192, 16);
}

void unpack_q3_k(const std::uint8_t* at, UnpackedBlock* out) {
  two_bits(at + 32, out->code);
  for (int run = 0; run < 8; ++run)
    for (int i = 0; i < 32; ++i) {
      std::uint8_t& code = out->code[32 * run + i];
      code = static_cast<std::uint8_t>(code | (at[i] >> run & 1) << 2);
    }
  const std::uint8_t* scales = at + 96;
  for (int g = 0; g < 16; ++g) {
    const int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
    out->sub[g] = static_cast<std::int8_t>((low | (scales[8 + g % 4] >> (2 * (g / 4)) & 3) << 4) - 32);
  }
}

void unpack_q2_k(const std::uint8_t* at, UnpackedBlock* out) {
  two_bits(at + 16, out->code);
  for (int g = 0; g < 16; ++g) {
    out->sub[g] = static_cast<std::int8_t>(at[g] & 15);
    out->submin[g] = at[g] >> 4;
  }
}

void unpack_iq4_xs(const std::uint8_t* at, UnpackedBlock* out) {
  const int high = word(at + 2);
  for (int g = 0; g < 8; ++g) {
    const int low = at[4 + g / 2] >> (4 * (g % 2)) & 15;
    out->sub[g] = static_cast<std::int8_t>((low | (high >> (2 * g) & 3) << 4) - 32);
    nibbles(at + 8 + 16 * g, out->code + 32 * g);
  }
}

// A power of two, 2^(exponent - 128), as bf16: subnormal there for the two smallest.
std::uint16_t power_of_two(int exponent) {
  return static_cast<std::uint16_t>(exponent < 2 ? 0x20 << exponent : (exponent - 1) << 7);
}

}  // namespace

const std::vector<BlockType>& all_block_types() {
  static const std::vector<BlockType> types(std::begin(kTypes), std::end(kTypes));
  return types;
}

const BlockType* block_type(const std::string& name) {
  for (const BlockType& type : kTypes)
    if (name == type.name) return &type;
  return nullptr;
}

std::string block_type_names() {
  std::string names;
  for (const BlockType& type : kTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

void unpack_block(const BlockType& type, const std::uint8_t* at, UnpackedBlock* out) {
  std::memset(out->sub, 1, sizeof out->sub);
  std::memset(out->submin, 1, sizeof out->submin);
  out->scale = word(at);
  out->min = 0;
  switch (type.id) {
    case 2: case 20: return nibbles(at + 2, out->code);
    case 3: out->min = word(at + 2); return nibbles(at + 4, out->code);
    case 6: nibbles(at + 6, out->code); return fifth_bits(at + 2, out->code);
    case 7: out->min = word(at + 2); nibbles(at + 8, out->code); return fifth_bits(at + 4, out->code);
    case 8:
      for (int i = 0; i < 32; ++i) out->code[i] = at[2 + i] ^ 128;
      return;
    case 10: out->scale = word(at + 80); out->min = word(at + 82); return unpack_q2_k(at, out);
    case 11: out->scale = word(at + 108); return unpack_q3_k(at, out);
    case 12: out->min = word(at + 2); return unpack_q4_k(at, out);
    case 13: out->min = word(at + 2); return unpack_q5_k(at, out);
    case 14: out->scale = word(at + 208); return unpack_q6_k(at, out);
    case 23: return unpack_iq4_xs(at, out);
    case 39: out->scale = power_of_two(at[0]); return nibbles(at + 1, out->code);
    default: return;  // every type of the table stands above
  }
}

float block_scale(const BlockType& type, const UnpackedBlock& block, int group) {
  const float scale = type.bf16 ? bf16_to_float(block.scale) : f16_to_float(block.scale);
  return type.subscales ? scale * static_cast<float>(block.sub[group]) : scale;
}

float block_min(const BlockType& type, const UnpackedBlock& block, int group) {
  if (!type.mins) return 0.0f;
  const float min = f16_to_float(block.min);
  return type.subscales ? -(min * static_cast<float>(block.submin[group])) : min;
}

void decode_block(const BlockType& type, const std::uint8_t* bytes, float* out) {
  UnpackedBlock block;
  unpack_block(type, bytes, &block);
  for (int g = 0; g < type.groups(); ++g) {
    const float scale = block_scale(type, block, g), min = block_min(type, block, g);
    const std::uint8_t* code = block.code + g * type.group;
    float* to = out + g * type.group;
    if (type.levels != nullptr)
      for (int i = 0; i < type.group; ++i) to[i] = scale * static_cast<float>(type.levels[code[i]]);
    else if (type.mins)
      for (int i = 0; i < type.group; ++i) to[i] = scale * static_cast<float>(code[i] - type.zero) + min;
    else
      for (int i = 0; i < type.group; ++i) to[i] = scale * static_cast<float>(code[i] - type.zero);
  }
}

}  // namespace aerogel
