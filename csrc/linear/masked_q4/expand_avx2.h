// How chunks of masked_q4 become bytes on AVX2, for its kernels of integers and of tables. All in an anonymous namespace: no copy can
// be shared with code compiled for another instruction set.
//
// First the values of a chunk become bytes (5 instructions for 32); then, 16 weights at a time, a byte shuffle by two tables of 256
// entries brings them to where two bytes of mask want them, 12 instructions.
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

// Weights of a chunk whose values are bytes already, in order, into registers.
struct Spread {
  const std::uint8_t* bits;
  const std::uint8_t* values;

  inline __attribute__((always_inline)) static __m128i sixteen(const std::uint8_t* from, std::uint8_t first, std::uint8_t second) {
    const __m128i places = _mm_add_epi8(load_sixteen(kShuffles.low[first]), load_sixteen(kShuffles.high[second]));
    return _mm_shuffle_epi8(load_sixteen(from), places);
  }
  // Four times 16. The bits of all before are counted at once, not 16 by 16: popcnt of 16 bits waits for what its destination was.
  inline __attribute__((always_inline)) void sixty_four(__m256i& low, __m256i& high) {
    std::uint64_t word;
    __builtin_memcpy(&word, bits, 8);
    const __m128i a = sixteen(values, bits[0], bits[1]);
    const __m128i b = sixteen(values + __builtin_popcountll(word << 48), bits[2], bits[3]);
    const __m128i c = sixteen(values + __builtin_popcountll(word << 32), bits[4], bits[5]);
    const __m128i d = sixteen(values + __builtin_popcountll(word << 16), bits[6], bits[7]);
    values += __builtin_popcountll(word);
    bits += 8;
    low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
  }
};

// A byte of each of 16 rows, to where four of a row stand.
inline void four_a_row(const std::int8_t* row, __m256i& low, __m256i& high) {
  const __m256i rows = _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
  const __m256i all = _mm256_broadcastsi128_si256(load_sixteen(row));
  low = _mm256_shuffle_epi8(all, rows);
  high = _mm256_shuffle_epi8(all, _mm256_add_epi8(rows, _mm256_set1_epi8(8)));
}

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

  // The next chunk, for a kernel that spreads it itself.
  Spread spread(std::int64_t columns) {
    const std::uint8_t* const values = unpack(columns);
    const Spread made = {reinterpret_cast<const std::uint8_t*>(mask), values};
    mask += columns / 4;
    return made;
  }

  // 16 rows x `columns` bytes: indices of integers, levels of a table.
  void chunk(std::int64_t columns, std::uint8_t* bytes) {
    Spread from = spread(columns);
    __m256i low = _mm256_set1_epi8(w.same_zero), high = low;
    for (std::int64_t k = 0; k < columns; k += kQ4Block) {
      if (w.zero != nullptr) four_a_row(w.zero + group * kDenseQ4Avx2.rows, low, high);
      for (std::int64_t step = 0; step < kQ4Block; step += 4, bytes += 64) {
        __m256i first, second;
        from.sixty_four(first, second);
        _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), _mm256_xor_si256(first, low));
        _mm256_store_si256(reinterpret_cast<__m256i*>(bytes + 32), _mm256_xor_si256(second, high));
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
