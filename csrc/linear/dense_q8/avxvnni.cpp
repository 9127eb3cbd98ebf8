// dense_q8 on AVX-VNNI: vpdpbusd on ymm, 32 products an instruction, summed into int32 without saturation.
//
// Bound: vpdpbusd itself (two a cycle on Alder Lake's large cores and on Zen 5, one on the small cores). As on AVX-512, weights
// carry + 128 and are the unsigned side, x is used as it is, and 128 * sum_k x is taken off at the end (modulo 2^32: the
// intermediate may wrap, the result does not). Sixteen registers hold a tile of 6 tokens x 16 rows: 12 accumulators, two of
// weights and the broadcast; 8 loads go with 12 vpdpbusd. One or two tokens run several steps of k in parallel to cover the
// latency (5 cycles).
//
// x is copied into the tiling of layout.h, which also yields its sums. Not yet timed on hardware.
#include <immintrin.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTile = kDenseQ8TilingAvxVnni.tile;
constexpr std::int64_t kStride = kDenseQ8TilingAvxVnni.stride;
constexpr std::int64_t kRows = kDenseQ8AvxVnni.rows;

// DRAM streams: far enough ahead to cover the latency at full speed; nearer ones (1-2 KB) do nothing.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

// One token's x[k..k+3].
struct Four {
  std::int8_t k[4];
};

inline __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }

// sums of 16 rows += w[16, 4] . x[4]. As intrinsics, GCC 12 broadcasts for all tokens first and spills. {vex}: without it the
// assembler takes the AVX-512 encoding.
inline void multiply_add(__m256i& low, __m256i& high, __m256i w_low, __m256i w_high, const Four* x) {
  __m256i four;
  __asm__(
      "vpbroadcastd %[x], %[four]\n\t"
      "%{vex%} vpdpbusd %[four], %[w0], %[low]\n\t"
      "%{vex%} vpdpbusd %[four], %[w1], %[high]"
      : [low] "+x"(low), [high] "+x"(high), [four] "=&x"(four)
      : [w0] "x"(w_low), [w1] "x"(w_high), [x] "m"(*x));
}

// sums[T, 16] (+)= x[T, columns] . (w + 128)[16, columns]^T; columns is a multiple of 16.
template <int T, bool Prefetch>
void tile(const std::int8_t* x, const std::int8_t* codes, std::int64_t columns, std::int32_t* sums, bool accumulate) {
  constexpr int S = T == 1 ? 4 : T == 2 ? 2 : 1;  // steps of k in parallel
  __m256i low[S][T], high[S][T];
  UNROLL for (int s = 0; s < S; ++s) {
    UNROLL for (int t = 0; t < T; ++t) {
      const bool held = accumulate && s == 0;
      low[s][t] = held ? load(sums + t * kRows) : _mm256_setzero_si256();
      high[s][t] = held ? load(sums + t * kRows + 8) : _mm256_setzero_si256();
    }
  }
  for (std::int64_t k = 0; k < columns; k += 4 * S) {
    UNROLL for (int s = 0; s < S; ++s) {
      const std::int8_t* step = codes + (k + 4 * s) * kRows;
      if (Prefetch) _mm_prefetch(reinterpret_cast<const char*>(step + kPrefetchBytes), _MM_HINT_T0);
      const __m256i w_low = load(step), w_high = load(step + 32);
      UNROLL for (int t = 0; t < T; ++t)
        multiply_add(low[s][t], high[s][t], w_low, w_high, reinterpret_cast<const Four*>(x + t * kStride + k + 4 * s));
    }
  }
  UNROLL for (int t = 0; t < T; ++t) {
    UNROLL for (int s = 1; s < S; ++s) {
      low[0][t] = _mm256_add_epi32(low[0][t], low[s][t]);
      high[0][t] = _mm256_add_epi32(high[0][t], high[s][t]);
    }
    store(sums + t * kRows, low[0][t]);
    store(sums + t * kRows + 8, high[0][t]);
  }
}

template <bool Prefetch>
void tile_of(std::int64_t tokens, const std::int8_t* x, const std::int8_t* codes, std::int64_t columns, std::int32_t* sums,
             bool accumulate) {
  switch (tokens) {
    case 1: return tile<1, Prefetch>(x, codes, columns, sums, accumulate);
    case 2: return tile<2, Prefetch>(x, codes, columns, sums, accumulate);
    case 3: return tile<3, Prefetch>(x, codes, columns, sums, accumulate);
    case 4: return tile<4, Prefetch>(x, codes, columns, sums, accumulate);
    case 5: return tile<5, Prefetch>(x, codes, columns, sums, accumulate);
    default: return tile<6, Prefetch>(x, codes, columns, sums, accumulate);
  }
}

// One token into the tiling; returns 128 * sum_k x. Whole lines: x is zero beyond K, up to a multiple of 64.
std::int32_t copy_x(const std::int8_t* x, std::int64_t k_padded, std::int64_t chunk, std::int64_t chunk_step, std::int8_t* out) {
  const __m256i flip = _mm256_set1_epi8(-128);
  __m256i sum = _mm256_setzero_si256();  // of x + 128, four in 64 bits
  std::int64_t columns = 0;
  for (std::int64_t begin = 0; begin < k_padded; begin += chunk, out += chunk_step) {
    const std::int64_t end = k_padded - begin < chunk ? k_padded : begin + chunk;
    for (std::int64_t k = begin; k < end; k += 64, columns += 64) {
      const __m256i low = load(x + k), high = load(x + k + 32);
      sum = _mm256_add_epi64(sum, _mm256_sad_epu8(_mm256_xor_si256(low, flip), _mm256_setzero_si256()));
      sum = _mm256_add_epi64(sum, _mm256_sad_epu8(_mm256_xor_si256(high, flip), _mm256_setzero_si256()));
      store(out + k - begin, low);
      store(out + k - begin + 32, high);
    }
  }
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  const std::int64_t total = _mm_extract_epi64(two, 0) + _mm_extract_epi64(two, 1) - 128 * columns;
  return static_cast<std::int32_t>(128 * total);
}

// Sums of one panel to y.
void finish(const LinearTask& task, const DenseQ8View& w, std::int64_t panel, std::int64_t first_token, std::int64_t tokens,
            const std::int32_t* sums, const std::int32_t* offsets) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t n = panel * kRows + half * 8;
    if (n >= w.n) return;
    const bool whole = n + 8 <= w.n;
    const __m256i rows = _mm256_cmpgt_epi32(_mm256_set1_epi32(whole ? 8 : static_cast<int>(w.n - n)), lane);
    const __m256 scale = _mm256_load_ps(w.scale + n);
    const __m256 bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, rows) : _mm256_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      const __m256i sum = _mm256_sub_epi32(load(sums + t * kRows + half * 8), _mm256_set1_epi32(offsets[t]));
      __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(_mm256_set1_ps(task.x_scale[first_token + t]), scale));
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

void run_dense_q8_avxvnni(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunks = dense_q8_chunks(kDenseQ8TilingAvxVnni, w.k_padded);
  const std::int64_t chunk = dense_q8_chunk(kDenseQ8TilingAvxVnni, w.k_padded);
  const std::int64_t most = dense_q8_block(kDenseQ8TilingAvxVnni, w.k_padded);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;

  auto* const copied_x = static_cast<std::int8_t*>(task.scratch);
  auto* const sums = reinterpret_cast<std::int32_t*>(copied_x + chunks * held * kStride);
  std::int32_t* const offsets = sums + held * kRows;

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t t = 0; t < tokens; ++t)
      offsets[t] = copy_x(x + (first + t) * task.ldx, w.k_padded, chunk, held * kStride, copied_x + t * kStride);
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        const std::int8_t* codes = w.codes + panel * kRows * w.k_padded + k * kRows;
        const std::int8_t* chunk_x = copied_x + c * held * kStride;
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          (i == 0 ? tile_of<true> : tile_of<false>)(next - t, chunk_x + t * kStride, codes, columns, sums + t * kRows, c != 0);
          t = next;
        }
      }
      finish(task, w, panel, first, tokens, sums, offsets);
    }
  }
}

}  // namespace aerogel
