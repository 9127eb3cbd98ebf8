// masked_q4 on AVX2, any levels: a chunk of a panel is expanded into scratch, one level in a byte, in the order in which even and odd
// bytes become what the tile of dense_q8 wants.
#include "linear/dense_q8/tile_avx2.h"
#include "linear/linear.h"
#include "linear/masked_q4/expand_avx2.h"
#include "linear/masked_q4/layout.h"

namespace aerogel {

void run_masked_q4_table_avx2(const LinearTask& task);  // called by avx2.cpp

namespace {

// Levels, widened as they are read; with Keep also stored.
template <bool Keep>
struct Levels {
  static constexpr int kShift = Keep ? 0 : 8;
  const std::uint8_t* bytes;
  std::int16_t* words;
  __m256i low, high;  // four columns of 8 rows, in the order 0 2 1 3

  void enter() {
    low = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
    high = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes + 32));
    bytes += 64;
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

// One token uses a level once: it is multiplied where it was spread, and written nowhere.
struct Spreading {
  static constexpr int kShift = 8;
  Spread spread;
  __m256i low, high;

  INLINE void enter() { spread.sixty_four(low, high); }
  template <int I>
  INLINE Pair pair() {
    const __m256i odd = _mm256_set1_epi16(-256);
    return {I == 0 ? _mm256_slli_epi16(low, 8) : _mm256_and_si256(low, odd),
            I == 0 ? _mm256_slli_epi16(high, 8) : _mm256_and_si256(high, odd)};
  }
};

struct Panels {
  Expander expander;
  std::uint8_t* bytes;

  void begin(std::int64_t panel) { expander.begin(panel); }
  void stream(std::int64_t t, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    if (t == 1) {
      Spreading one{expander.spread(columns), _mm256_setzero_si256(), _mm256_setzero_si256()};
      return tile<1>(one, x, columns, ends);
    }
    expander.chunk(columns, bytes);
    Levels<false> chunk{bytes, nullptr, _mm256_setzero_si256(), _mm256_setzero_si256()};
    tile_of(t, chunk, x, columns, ends);
  }
  void keep(std::int64_t t, std::int16_t* words, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    expander.chunk(columns, bytes);
    Levels<true> chunk{bytes, words, _mm256_setzero_si256(), _mm256_setzero_si256()};
    tile_of(t, chunk, x, columns, ends);
  }
};

}  // namespace

void run_masked_q4_table_avx2(const LinearTask& task) {
  const MaskedQ4View& w = *static_cast<const MaskedQ4View*>(task.weight);
  auto* const bytes = static_cast<std::uint8_t*>(task.scratch) + masked_q4_room_avx2(false, w.k_padded, task.m);
  Panels panels{Expander{w, bytes + kMaskedQ4RoomAvx2, nullptr, 0, 0, 0, _mm256_setzero_si256()}, bytes};
  run_panels(task, w.n, w.k_padded, w.scale, kMaskedQ4TilingTableAvx2, panels);
}

}  // namespace aerogel
