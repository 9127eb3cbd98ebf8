// masked_q8 on AVX2, which has no expand instruction: a byte shuffle does it, by tables of 256 entries for a byte of mask.
//
// 32 weights (two ymm of int16, what vpmaddwd wants) need one popcount: the values of the first 16 are counted up from where
// the values begin and those of the last 16 down from where they end. The shuffle puts a value into the high byte of its
// int16, which spares the widening: sums are 256 times too large, and int32 holds them for the 512 columns of a chunk
// (512 * 127^2 * 256 < 2^31), after which they are shifted back.
//
// Bound, one token: the number of instructions. 64 weights are 53 (12 vector loads, 8 of them from tables; 16 to make 8 table
// addresses; 8 multiply and add), at six a cycle 8.8 cycles, and 25 loads at three a cycle 8.3; dense_q8 has 14 for the same.
// That is at most 17 Gweights/s at 2.5 GHz whatever the sparsity, so on this instruction set the format saves memory, not time.
//
// Measured on a 2-core Zen 3, times as fast as dense_q8. One token, 4096 x 4096 from DRAM (a bare read 13-17 GB/s a core): .80 to
// .89 at 50-90 % with one thread, .72 to .84 with two; best 10th percentiles of another, busier hour 1.1 to 1.3 with one. In cache
// (768 x 768) .36: the 17 Gweights/s of above. With more tokens the cost of expanding is spread: .67 at 4, .83 at 16, .93 to .99 at 128.
#include <immintrin.h>

#include "linear/dense_q8/tile_avx2.h"
#include "linear/linear.h"
#include "linear/masked_q8/layout.h"

namespace aerogel {
namespace {

// The tables fill half of L1, so the values are fetched less far ahead than dense codes; the mask comes slowly enough by itself.
constexpr std::int64_t kNearBytes = 4 * 1024;

// Byte shuffles that bring up to 8 + 8 values to where two bytes of mask want them, each into the high byte of an int16
// (the value times 256) over a low byte of 0. A byte is the place of its value among the 16 loaded, or 128: none.
//
//     low[m] + high[m'] = | places of m | places of m', behind the values of m |
//                  low[m] = | places of m | how many values m has, 8 times |
//                high[m'] = | 0           | places of m'                  |
struct Shuffles {
  alignas(32) std::uint8_t low[256][32];
  alignas(32) std::uint8_t high[256][32];

  constexpr Shuffles() : low(), high() {
    for (int m = 0; m < 256; ++m) {
      int place = 0;
      for (int b = 0; b < 8; ++b) {
        const bool there = (m >> b & 1) != 0;
        low[m][2 * b] = high[m][16 + 2 * b] = 128;
        low[m][2 * b + 1] = high[m][16 + 2 * b + 1] = static_cast<std::uint8_t>(there ? place : 128);
        place += there;
      }
      for (int b = 0; b < 8; ++b) low[m][16 + 2 * b + 1] = static_cast<std::uint8_t>(place);
    }
  }
};
constexpr Shuffles kShuffles;

inline __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

inline __m256i load_both(const std::int8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// The weights of a panel, expanded as they are read; with Keep also stored.
template <bool Keep>
struct Expanded {
  static constexpr int kShift = Keep ? 0 : 8;
  const std::uint8_t* mask;
  const std::int8_t* values;
  std::int16_t* words;

  void enter() { _mm_prefetch(reinterpret_cast<const char*>(values + kNearBytes), _MM_HINT_T0); }
  template <int I>
  INLINE Pair pair() {
    Pair made;
    std::uint32_t bits;
    __builtin_memcpy(&bits, mask, 4);
    const std::int8_t* const end = values + __builtin_popcount(bits);
    const __m256i up = _mm256_add_epi8(load(kShuffles.low[mask[0]]), load(kShuffles.high[mask[1]]));
    made.low = _mm256_shuffle_epi8(load_both(values), up);
    const __m256i down =
        _mm256_sub_epi8(_mm256_sub_epi8(_mm256_set1_epi8(15), load(kShuffles.low[mask[2]])), load(kShuffles.high[mask[3]]));
    made.high = _mm256_shuffle_epi8(load_both(end - 16), down);
    values = end;
    mask += 4;
    if (Keep) {
      made.low = _mm256_srai_epi16(made.low, 8);
      made.high = _mm256_srai_epi16(made.high, 8);
      store_pair(words, made);
      words += 32;
    }
    return made;
  }
};

struct Panels {
  const MaskedQ8View& w;
  const std::uint8_t* mask;
  const std::int8_t* values;

  void begin(std::int64_t panel) {
    mask = reinterpret_cast<const std::uint8_t*>(w.mask + panel * kRows * w.k_padded / 64);
    values = w.values + w.panel_begin[panel];
  }
  void stream(std::int64_t t, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    Expanded<false> chunk{mask, values, nullptr};
    tile_of(t, chunk, x, columns, ends);
    mask = chunk.mask;
    values = chunk.values;
  }
  void keep(std::int64_t t, std::int16_t* words, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    Expanded<true> chunk{mask, values, words};
    tile_of(t, chunk, x, columns, ends);
    mask = chunk.mask;
    values = chunk.values;
  }
};

}  // namespace

void run_masked_q8_avx2(const LinearTask& task) {
  const MaskedQ8View& w = *static_cast<const MaskedQ8View*>(task.weight);
  Panels panels{w, nullptr, nullptr};
  run_panels(task, w.n, w.k_padded, w.scale, kMaskedQ8TilingAvx2, panels);
}

}  // namespace aerogel
