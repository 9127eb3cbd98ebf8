// How chunks of masked_q4 become bytes on AVX2, for its kernels of integers and of tables. All in an anonymous namespace: no copy can
// be shared with code compiled for another instruction set.
//
// First the values of a chunk become bytes (5 instructions for 32); then, 16 weights at a time, a byte shuffle by two tables of 256
// entries brings them to where two bytes of mask want them, 11 instructions.
#pragma once

#include <immintrin.h>

#include "linear/masked_q4/layout.h"

namespace aerogel {
namespace {

// Byte shuffles that bring up to 8 + 8 values to where two bytes of mask want them: the place of a value among the 16 loaded, or
// from 128 on: none, 0.
//
//     low[m] + high[m'] = | places of m | places of m', behind the values of m |
//                  low[m] = | places of m | how many values m has, 8 times |
//                high[m'] = | 0           | places of m'                  |
struct Shuffles {
  alignas(16) std::uint8_t low[256][16];
  alignas(16) std::uint8_t high[256][16];

  constexpr Shuffles() : low(), high() {
    for (int m = 0; m < 256; ++m) {
      std::uint8_t place = 0;
      for (int b = 0; b < 8; ++b) low[m][b] = high[m][8 + b] = (m >> b & 1) != 0 ? place++ : std::uint8_t{128};
      for (int b = 0; b < 8; ++b) low[m][8 + b] = place;
    }
  }
};
constexpr Shuffles kShuffles;

inline __m128i load_sixteen(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

// A panel, chunk by chunk.
struct Expander {
  const MaskedQ4View& w;
  std::uint8_t* room;  // for the values of a chunk
  const std::uint64_t* mask;
  std::int64_t value, group;  // the next
  std::int64_t left;          // columns of its group
  __m256i levels;

  void begin(std::int64_t panel) {
    mask = w.mask + panel * kDenseQ4Avx2.rows * w.k_padded / 64;
    value = w.panel_begin[panel];
    group = panel * w.groups;
    left = w.group;
    levels = _mm256_broadcastsi128_si256(load_sixteen(w.levels + panel * 16));
  }

  // The values of a chunk, one in a byte; levels instead of the indices of a table.
  const std::uint8_t* unpack(std::int64_t columns) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < columns / 4; ++i) count += __builtin_popcountll(mask[i]);
    const std::uint8_t* from = w.values + value / 2;
    const std::uint8_t* const first = room + value % 2;
    value += count;
    const __m256i nibbles = _mm256_set1_epi8(15);
    std::uint8_t* out = room;
    for (std::uint8_t* const end = room + count + 1; out < end; out += 32, from += 16) {
      _mm_prefetch(reinterpret_cast<const char*>(from + 4096), _MM_HINT_T0);
      const __m256i wide = _mm256_cvtepu8_epi16(load_sixteen(from));
      __m256i each = _mm256_and_si256(_mm256_or_si256(wide, _mm256_slli_epi16(wide, 4)), nibbles);
      if (!w.linear) each = _mm256_shuffle_epi8(levels, each);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out), each);
    }
    return first;
  }

  // 16 rows x `columns` bytes: indices of integers, levels of a table.
  void chunk(std::int64_t columns, std::uint8_t* bytes) {
    const std::uint8_t* values = unpack(columns);
    const __m128i four = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);  // rows of 16 bytes
    __m128i zero[4] = {};
    const auto* bits = reinterpret_cast<const std::uint8_t*>(mask);
    for (std::int64_t k = 0; k < columns; k += kQ4Block) {
      const __m128i zeros = w.zero != nullptr ? load_sixteen(w.zero + group * kDenseQ4Avx2.rows) : _mm_set1_epi8(w.same_zero);
      for (int i = 0; i < 4; ++i) zero[i] = _mm_shuffle_epi8(zeros, _mm_add_epi8(four, _mm_set1_epi8(static_cast<char>(4 * i))));
      for (std::int64_t step = 0; step < kQ4Block; step += 4, bits += 8, bytes += 64)
        for (int i = 0; i < 4; ++i) {
          const std::uint8_t low = bits[2 * i], high = bits[2 * i + 1];
          const __m128i places = _mm_add_epi8(load_sixteen(kShuffles.low[low]), load_sixteen(kShuffles.high[high]));
          const __m128i spread = _mm_shuffle_epi8(load_sixteen(values), places);
          values += __builtin_popcount(low | static_cast<unsigned>(high) << 8);
          _mm_store_si128(reinterpret_cast<__m128i*>(bytes) + i, _mm_xor_si128(spread, zero[i]));
        }
      left -= kQ4Block;
      if (left == 0) {
        left = w.group;
        ++group;
      }
    }
    mask += columns / 4;
  }
};

}  // namespace
}  // namespace aerogel
