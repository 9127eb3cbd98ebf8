// dense_q8 on AVX2: codes and x widened to int16, vpmaddwd + vpaddd. Exact: 2 * 127^2 is far from int32, nothing saturates.
//
// Bound: 16 products cost one vpmaddwd and one vpaddd. With two multipliers and four vector pipes (Zen) that is 32 MAC a
// cycle. vpmaddubsw does 32 products, but needs vpsignb (int8 by int8 does not exist), vpmaddwd by ones and vpaddd for them:
// the same 32 MAC a cycle at best. Bare loops on Zen 3: 80 against 74 GMAC/s.
//
// The loop must then hold nothing but those pairs and loads. x is widened once per block, in scratch: a broadcast of two
// int16 from memory is a load. A panel's chunk is widened by the first token tile that uses it (2 of 26 vector instructions),
// which stores it for the others. The tile is 6 tokens x 16 rows: 12 accumulators, 2 weights, x and the product make 16
// registers, and 8 loads go with 24 arithmetic instructions. Up to 6 tokens there is no reuse: the codes stream by.
//
// Measured on a busy 2-core Zen 3, one thread, share of the bare loop's 80 GMAC/s (best of many), by tokens:
//     [N, K]        4     16    64    128                     [N, K]         4     16    64    128
//     384, 384      .94   .98   .99   .98                     768, 768       .95   .98   .99   .98
//     3072, 768     .95   .98   .97   -                       768, 3072      .95   .98   .98   -
// The sums of the last chunk go from registers to y: 3.4 % at 384 x 384, 1.4 % at 768 x 768 (interleaved with storing them for a later pass).
// One token: 44 GB/s of codes in cache (a bare read 65; bound by vpmovsxbw), from DRAM as fast as a bare read (15 GB/s then).
#include <immintrin.h>

#include "linear/dense_q8/layout.h"
#include "linear/dense_q8/tile_avx2.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

// int8, widened when loaded; with Keep also stored as int16.
template <bool Keep>
struct Codes {
  static constexpr int kShift = 0;
  const std::int8_t* codes;
  std::int16_t* words;

  void enter() { _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes), _MM_HINT_T0); }
  template <int I>
  INLINE Pair pair() {
    const Pair read = {_mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes))),
                       _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + 16)))};
    codes += 32;
    if (Keep) {
      store_pair(words, read);
      words += 32;
    }
    return read;
  }
};

struct Panels {
  const DenseQ8View& w;
  const std::int8_t* codes;

  void begin(std::int64_t panel) { codes = w.codes + panel * kRows * w.k_padded; }
  void stream(std::int64_t t, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    Codes<false> chunk{codes, nullptr};
    tile_of(t, chunk, x, columns, ends);
    codes = chunk.codes;
  }
  void keep(std::int64_t t, std::int16_t* words, const std::int16_t* x, std::int64_t columns, const Ends& ends) {
    Codes<true> chunk{codes, words};
    tile_of(t, chunk, x, columns, ends);
    codes = chunk.codes;
  }
};

}  // namespace

void run_dense_q8_avx2(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  Panels panels{w, nullptr};
  run_panels(task, w.n, w.k_padded, w.scale, kDenseQ8TilingAvx2, panels);
}

}  // namespace aerogel
