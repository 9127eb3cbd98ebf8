// How chunks of masked_q4 become bytes on AVX-512 VBMI2, for its kernels of integers and of tables. All in an anonymous namespace: no
// copy can be shared with code compiled for another instruction set.
#pragma once

#include <immintrin.h>

#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/masked_q4/layout.h"

namespace aerogel {
namespace {

// Values to where the mask has bits, 0 to where it has none. From a register: from memory vpexpandb is slow. Merged into a zeroed
// register: zero-masked it waits for what its destination was before. Not the intrinsic, whose instruction set the rest of this
// file, shared with the dense kernel, must not assume.
inline __m512i expand(const std::uint64_t* mask, __m512i values) {
  __m512i w = _mm512_setzero_si512();
  __mmask64 where;  // from memory: from a general register it takes twice as long on Zen 5
  __asm__("kmovq %[mask], %[where]" : [where] "=Yk"(where) : [mask] "m"(*mask));
  __asm__("vpexpandb %[values], %[w] %{%[where]%}" : [w] "+v"(w) : [values] "v"(values), [where] "Yk"(where));
  return w;
}

// A chunk whose weights are expanded as they are read, one in a byte: for one tile of tokens, when all zeros are the same
// byte.
struct Expanded {
  const std::uint64_t* mask;
  const std::uint8_t* values;
  __m512i zero;

  Quad next() {
    _mm_prefetch(reinterpret_cast<const char*>(mask) + kPrefetchBytes, _MM_HINT_T0);
    Quad made;
    made.low = _mm512_xor_si512(expand(mask, _mm512_loadu_si512(values)), zero);
    values += __builtin_popcountll(mask[0]);
    made.high = _mm512_xor_si512(expand(mask + 1, _mm512_loadu_si512(values)), zero);
    values += __builtin_popcountll(mask[1]);
    mask += 2;
    return made;
  }
};

// A panel, chunk by chunk.
struct Expander {
  const MaskedQ4View& w;
  std::uint8_t* room;  // for the values of a chunk
  const std::uint64_t* mask;
  std::int64_t value, group;  // the next
  std::int64_t left;          // columns of its group
  __m512i levels;

  void begin(std::int64_t panel) {
    mask = w.mask + panel * kDenseQ4Avx512.rows * w.k_padded / 64;
    value = w.panel_begin[panel];
    group = panel * w.groups;
    left = w.group;
    levels = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w.levels + panel * 16)));
  }

  // The values of a chunk, one in a byte; levels instead of the indices of a table.
  const std::uint8_t* unpack(std::int64_t columns) {
    std::int64_t counts[4] = {};  // of a multiple of 16 words; a loop of one each took a quarter of a call for one token
    for (std::int64_t i = 0; i < columns / 2; i += 4)
      for (int j = 0; j < 4; ++j) counts[j] += __builtin_popcountll(mask[i + j]);
    const std::int64_t count = counts[0] + counts[1] + counts[2] + counts[3];
    const std::uint8_t* from = w.values + value / 2;
    const std::uint8_t* const first = room + value % 2;
    value += count;
    const __m512i nibbles = _mm512_set1_epi8(15);
    std::uint8_t* out = room;
    for (std::uint8_t* const end = room + count + 1; out < end; out += 64, from += 32) {
      _mm_prefetch(reinterpret_cast<const char*>(from + 8192), _MM_HINT_T0);
      const __m512i wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
      __m512i each = _mm512_and_si512(_mm512_or_si512(wide, _mm512_slli_epi16(wide, 4)), nibbles);
      if (!w.linear) each = _mm512_shuffle_epi8(levels, each);
      _mm512_store_si512(out, each);
    }
    return first;
  }

  // The next chunk, if all zeros are the same.
  Expanded read(std::int64_t columns) {
    const Expanded chunk{mask, unpack(columns), _mm512_set1_epi8(w.linear ? w.same_zero : -128)};
    mask += columns / 2;
    return chunk;
  }

  // 32 rows x `columns` bytes: indices of integers, levels of a table + 128.
  void chunk(std::int64_t columns, std::uint8_t* bytes) {
    const std::uint8_t* values = unpack(columns);
    // The row of each byte of a register, four bytes a row.
    const __m512i rows = _mm512_setr_epi32(0x00000000, 0x01010101, 0x02020202, 0x03030303, 0x04040404, 0x05050505, 0x06060606, 0x07070707,
                                           0x08080808, 0x09090909, 0x0a0a0a0a, 0x0b0b0b0b, 0x0c0c0c0c, 0x0d0d0d0d, 0x0e0e0e0e, 0x0f0f0f0f);
    for (std::int64_t k = 0; k < columns; k += kQ4Block) {
      __m512i zero_low = _mm512_set1_epi8(w.linear ? w.same_zero : -128), zero_high = zero_low;
      if (w.zero != nullptr) {
        const auto* at = reinterpret_cast<const __m128i*>(w.zero + group * kDenseQ4Avx512.rows);
        zero_low = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(at)), rows);
        zero_high = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(at + 1)), rows);
      }
      for (std::int64_t step = 0; step < kQ4Block; step += 4, mask += 2, bytes += 128) {
        _mm512_store_si512(bytes, _mm512_xor_si512(expand(mask, _mm512_loadu_si512(values)), zero_low));
        values += __builtin_popcountll(mask[0]);
        _mm512_store_si512(bytes + 64, _mm512_xor_si512(expand(mask + 1, _mm512_loadu_si512(values)), zero_high));
        values += __builtin_popcountll(mask[1]);
      }
      left -= kQ4Block;
      if (left == 0) {
        left = w.group;
        ++group;
      }
    }
  }
};

}  // namespace
}  // namespace aerogel
