// dense_q4 on AVX2, any levels: a byte shuffle looks 32 of them up, even and odd bytes become int16 by a shift and a mask (256
// times too large, which int32 bears for the 512 columns of a chunk), and the rest is dense_q8.
//
// Bound, one token: 18 instructions for 64 weights, where dense_q8 has 14: slower from cache, faster from DRAM, where the bytes
// count. With many tokens the levels are looked up once, and it is dense_q8.
//
// Measured on a busy 2-core Zen 3, one thread, times as fast as dense_q8: from cache (768 x 768) .84 / .87 / .96 / 1.0 at 1 / 4 / 16 /
// 128 tokens; from DRAM 1.6 to 2.2 at one token, 1.15 at 4.
#include <immintrin.h>

#include "linear/dense_q4/layout.h"
#include "linear/dense_q8/tile_avx2.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_q4_table_avx2(const LinearTask& task);  // called by avx2.cpp

namespace {

// Looked up as they are read; with Keep also stored.
template <bool Keep>
struct Levels {
  static constexpr int kShift = Keep ? 0 : 8;
  const std::uint8_t* index;
  __m256i levels;
  std::int16_t* words;
  __m256i low, high;  // four columns of 8 rows, in the order 0 2 1 3

  void enter() {
    _mm_prefetch(reinterpret_cast<const char*>(index + kPrefetchBytes), _MM_HINT_T0);
    const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(index)), mask = _mm256_set1_epi8(15);
    low = _mm256_shuffle_epi8(levels, _mm256_and_si256(both, mask));
    high = _mm256_shuffle_epi8(levels, _mm256_and_si256(_mm256_srli_epi16(both, 4), mask));
    index += 32;
  }
  template <int I>
  INLINE Pair pair() {
    const __m256i odd = _mm256_set1_epi16(-256);
    Pair made;
    made.low = I == 0 ? _mm256_slli_epi16(low, 8) : Keep ? low : _mm256_and_si256(low, odd);
    made.high = I == 0 ? _mm256_slli_epi16(high, 8) : Keep ? high : _mm256_and_si256(high, odd);
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
  const DenseQ4View& w;
  const std::uint8_t* index;
  __m256i levels;

  void begin(std::int64_t panel) {
    index = w.index + panel * kRows * w.k_padded / 2;
    levels = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(w.levels + panel * 16)));
  }
  void stream(std::int64_t t, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    Levels<false> chunk{index, levels, nullptr, levels, levels};
    tile_of(t, chunk, x, columns, ends);
    index = chunk.index;
  }
  void keep(std::int64_t t, std::int16_t* words, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    Levels<true> chunk{index, levels, words, levels, levels};
    tile_of(t, chunk, x, columns, ends);
    index = chunk.index;
  }
};

}  // namespace

void run_dense_q4_table_avx2(const LinearTask& task) {
  const DenseQ4View& w = *static_cast<const DenseQ4View*>(task.weight);
  Panels panels{w, nullptr, _mm256_setzero_si256()};
  run_panels(task, w.n, w.k_padded, w.scale, kDenseQ4TilingTableAvx2, panels);
}

}  // namespace aerogel
