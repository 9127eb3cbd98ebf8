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
// Measured on a busy 2-core Zen 3, one thread, share of the bare loop's 80 GMAC/s (best of many, CPU time), by tokens:
//     [N, K]        4     16    128   512                     [N, K]         4     16    128   512
//     384, 384      .92   .95   .95   .95                     768, 768       .96   .97   .97   .90
//     1536, 384     .92   .95   .95   .90                     3072, 768      .95   .96   .91   .90
//     384, 1536     .94   .96   .97   .91                     4096, 4096     .92   .87   .90   .86
// One token: 44 GB/s of codes in cache (a bare read 65; bound by vpmovsxbw), from DRAM as fast as a bare read (15 GB/s then).
#include <immintrin.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTile = kDenseQ8TilingAvx2.tile;
constexpr std::int64_t kStride = kDenseQ8TilingAvx2.stride;
constexpr std::int64_t kRows = kDenseQ8Avx2.rows;

// DRAM streams: far enough ahead to cover the latency at full speed; nearer ones (1-2 KB) do nothing.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

enum class Weights {
  stream,  // int8, widened when loaded
  widen,   // int8, widened when loaded and stored as int16
  ready,   // int16
};

// Two columns k, k+1 of 16 rows.
struct Pair {
  __m256i low, high;
};

template <Weights W>
inline Pair load_pair(const std::int8_t* codes, std::int16_t* words) {
  if (W == Weights::ready)
    return {_mm256_load_si256(reinterpret_cast<const __m256i*>(words)),
            _mm256_load_si256(reinterpret_cast<const __m256i*>(words + 16))};
  const Pair pair = {_mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes))),
                     _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + 16)))};
  if (W == Weights::widen) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), pair.low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(words + 16), pair.high);
  }
  return pair;
}

// One token's x[k], x[k+1].
struct Two {
  std::int16_t k[2];
};

// sums of 16 rows += w[16, 2] . x[2]. As intrinsics, GCC 12 computes the products of all tokens first and spills them.
inline void multiply_add(__m256i& low, __m256i& high, const Pair& w, const Two* x) {
  __m256i a, b;
  __asm__(
      "vpbroadcastd %[x], %[b]\n\t"
      "vpmaddwd %[b], %[w0], %[a]\n\t"
      "vpmaddwd %[b], %[w1], %[b]\n\t"
      "vpaddd %[a], %[low], %[low]\n\t"
      "vpaddd %[b], %[high], %[high]"
      : [low] "+x"(low), [high] "+x"(high), [a] "=&x"(a), [b] "=&x"(b)
      : [w0] "x"(w.low), [w1] "x"(w.high), [x] "m"(*x));
}

// sums[T, 16] (+)= x[T, columns] . w[16, columns]^T; columns is a multiple of 16.
template <int T, Weights W>
void tile(const std::int16_t* x, const std::int8_t* codes, std::int16_t* words, std::int64_t columns,
          std::int32_t* sums, bool accumulate) {
  __m256i low[T], high[T];
  UNROLL for (int t = 0; t < T; ++t) {
    low[t] = accumulate ? _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + t * kRows)) : _mm256_setzero_si256();
    high[t] = accumulate ? _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + t * kRows + 8)) : _mm256_setzero_si256();
  }
  for (std::int64_t k = 0; k < columns; k += 4) {
    if (W != Weights::ready) _mm_prefetch(reinterpret_cast<const char*>(codes + k * kRows + kPrefetchBytes), _MM_HINT_T0);
    UNROLL for (int pair = 0; pair < 4; pair += 2) {
      const Pair w = load_pair<W>(codes + (k + pair) * kRows, words + (k + pair) * kRows);
      UNROLL for (int t = 0; t < T; ++t)
        multiply_add(low[t], high[t], w, reinterpret_cast<const Two*>(x + t * kStride + k + pair));
    }
  }
  UNROLL for (int t = 0; t < T; ++t) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + t * kRows), low[t]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + t * kRows + 8), high[t]);
  }
}

template <Weights W>
void tile_of(std::int64_t tokens, const std::int16_t* x, const std::int8_t* codes, std::int16_t* words,
             std::int64_t columns, std::int32_t* sums, bool accumulate) {
  switch (tokens) {
    case 1: return tile<1, W>(x, codes, words, columns, sums, accumulate);
    case 2: return tile<2, W>(x, codes, words, columns, sums, accumulate);
    case 3: return tile<3, W>(x, codes, words, columns, sums, accumulate);
    case 4: return tile<4, W>(x, codes, words, columns, sums, accumulate);
    case 5: return tile<5, W>(x, codes, words, columns, sums, accumulate);
    default: return tile<6, W>(x, codes, words, columns, sums, accumulate);
  }
}

void widen_x(const std::int8_t* x, std::int64_t ldx, std::int64_t tokens, std::int64_t columns, std::int16_t* out) {
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t k = 0; k < columns; k += 16)
      _mm256_store_si256(
          reinterpret_cast<__m256i*>(out + t * kStride + k),
          _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(x + t * ldx + k))));
}

// Sums of one panel to y.
void finish(const LinearTask& task, const DenseQ8View& w, std::int64_t panel, std::int64_t first_token, std::int64_t tokens,
            const std::int32_t* sums) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t n = panel * kRows + half * 8;
    if (n >= w.n) return;
    const bool whole = n + 8 <= w.n;
    const __m256i rows = _mm256_cmpgt_epi32(_mm256_set1_epi32(whole ? 8 : static_cast<int>(w.n - n)), lane);
    const __m256 scale = _mm256_load_ps(w.scale + n);
    const __m256 bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, rows) : _mm256_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      const __m256 sum = _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums + t * kRows + half * 8)));
      __m256 value = _mm256_mul_ps(sum, _mm256_mul_ps(_mm256_set1_ps(task.x_scale[first_token + t]), scale));
      if (task.bias != nullptr) value = _mm256_add_ps(value, bias);
      float* y = task.y + (first_token + t) * task.ldy + n;
      if (whole)
        _mm256_storeu_ps(y, value);
      else
        _mm256_maskstore_ps(y, rows, value);
    }
  }
}

}  // namespace

void run_dense_q8_avx2(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunks = dense_q8_chunks(kDenseQ8TilingAvx2, w.k_padded);
  const std::int64_t chunk = dense_q8_chunk(kDenseQ8TilingAvx2, w.k_padded);
  const std::int64_t most = dense_q8_block(kDenseQ8TilingAvx2, w.k_padded);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;

  auto* const wide_x = static_cast<std::int16_t*>(task.scratch);
  std::int16_t* const words = wide_x + chunks * held * kStride;
  auto* const sums = reinterpret_cast<std::int32_t*>(words + kDenseQ8TilingAvx2.panel_bytes / 2);

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
      widen_x(x + first * task.ldx + k, task.ldx, tokens, columns, wide_x + c * held * kStride);
    }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        const std::int8_t* codes = w.codes + panel * kRows * w.k_padded + k * kRows;
        const std::int16_t* chunk_x = wide_x + c * held * kStride;
        if (tiles == 1) {
          tile_of<Weights::stream>(tokens, chunk_x, codes, words, columns, sums, c != 0);
          continue;
        }
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          (i == 0 ? tile_of<Weights::widen> : tile_of<Weights::ready>)(next - t, chunk_x + t * kStride, codes, words, columns,
                                                                       sums + t * kRows, c != 0);
          t = next;
        }
      }
      finish(task, w, panel, first, tokens, sums);
    }
  }
}

}  // namespace aerogel
