// dense_q8 on AVX-512 VNNI: vpdpbusd, 64 products an instruction, summed into int32 without saturation.
//
// Bound: vpdpbusd itself (two a cycle on Zen 5 and Intel servers, one on Zen 4). Weights carry + 128 and are the unsigned side,
// so x is used as it is; what the offset adds to a sum, 128 * sum_k x, is taken off at the end (modulo 2^32: the intermediate
// may wrap, the result does not). The tile is 12 tokens x 32 rows: 24 accumulators, and 14 loads go with 24 vpdpbusd; a
// broadcast that serves two of them is cheaper than two embedded broadcasts, which also could only be of the signed side.
// One or two tokens run several steps of k in parallel to cover the latency of vpdpbusd (4-5 cycles).
//
// x is copied into the tiling of layout.h rather than read in place: at K = 4096 the tokens of a tile would share one L1 set.
// The copy also yields the sums of x. Not yet timed on hardware (llvm-mca, icelake-server: 13.1 cycles for the
// 24 vpdpbusd of a step, of a possible 12).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32
#endif
#include <immintrin.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTile = kDenseQ8TilingAvx512.tile;
constexpr std::int64_t kStride = kDenseQ8TilingAvx512.stride;
constexpr std::int64_t kRows = kDenseQ8Avx512.rows;

// DRAM streams: far enough ahead to cover the latency at full speed; nearer ones (1-2 KB) do nothing.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

// One token's x[k..k+3].
struct Four {
  std::int8_t k[4];
};

// sums of 32 rows += w[32, 4] . x[4]. Around _mm512_dpbusd_epi32, GCC 12 copies the accumulator.
inline void multiply_add(__m512i& low, __m512i& high, __m512i w_low, __m512i w_high, const Four* x) {
  __m512i four;
  __asm__(
      "vpbroadcastd %[x], %[four]\n\t"
      "vpdpbusd %[four], %[w0], %[low]\n\t"
      "vpdpbusd %[four], %[w1], %[high]"
      : [low] "+v"(low), [high] "+v"(high), [four] "=&v"(four)
      : [w0] "v"(w_low), [w1] "v"(w_high), [x] "m"(*x));
}

// sums[T, 32] (+)= x[T, columns] . (w + 128)[32, columns]^T; columns is a multiple of 16.
template <int T, bool Prefetch>
void tile(const std::int8_t* x, const std::int8_t* codes, std::int64_t columns, std::int32_t* sums, bool accumulate) {
  constexpr int S = T == 1 ? 4 : T == 2 ? 2 : 1;  // steps of k in parallel
  __m512i low[S][T], high[S][T];
  UNROLL for (int s = 0; s < S; ++s) {
    UNROLL for (int t = 0; t < T; ++t) {
      const bool load = accumulate && s == 0;
      low[s][t] = load ? _mm512_load_si512(sums + t * kRows) : _mm512_setzero_si512();
      high[s][t] = load ? _mm512_load_si512(sums + t * kRows + 16) : _mm512_setzero_si512();
    }
  }
  for (std::int64_t k = 0; k < columns; k += 4 * S) {
    UNROLL for (int s = 0; s < S; ++s) {
      const std::int8_t* step = codes + (k + 4 * s) * kRows;
      if (Prefetch) {
        _mm_prefetch(reinterpret_cast<const char*>(step + kPrefetchBytes), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(step + kPrefetchBytes + 64), _MM_HINT_T0);
      }
      const __m512i w_low = _mm512_load_si512(step), w_high = _mm512_load_si512(step + 64);
      UNROLL for (int t = 0; t < T; ++t)
        multiply_add(low[s][t], high[s][t], w_low, w_high, reinterpret_cast<const Four*>(x + t * kStride + k + 4 * s));
    }
  }
  UNROLL for (int t = 0; t < T; ++t) {
    UNROLL for (int s = 1; s < S; ++s) {
      low[0][t] = _mm512_add_epi32(low[0][t], low[s][t]);
      high[0][t] = _mm512_add_epi32(high[0][t], high[s][t]);
    }
    _mm512_store_si512(sums + t * kRows, low[0][t]);
    _mm512_store_si512(sums + t * kRows + 16, high[0][t]);
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
    case 6: return tile<6, Prefetch>(x, codes, columns, sums, accumulate);
    case 7: return tile<7, Prefetch>(x, codes, columns, sums, accumulate);
    case 8: return tile<8, Prefetch>(x, codes, columns, sums, accumulate);
    case 9: return tile<9, Prefetch>(x, codes, columns, sums, accumulate);
    case 10: return tile<10, Prefetch>(x, codes, columns, sums, accumulate);
    case 11: return tile<11, Prefetch>(x, codes, columns, sums, accumulate);
    default: return tile<12, Prefetch>(x, codes, columns, sums, accumulate);
  }
}

// One token into the tiling; returns 128 * sum_k x. Whole lines: x is zero beyond K, up to a multiple of 64.
std::int32_t copy_x(const std::int8_t* x, std::int64_t k_padded, std::int64_t chunk, std::int64_t chunk_step, std::int8_t* out) {
  __m512i sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t begin = 0; begin < k_padded; begin += chunk, out += chunk_step) {
    const std::int64_t end = k_padded - begin < chunk ? k_padded : begin + chunk;
    for (std::int64_t k = begin; k < end; k += 64) {
      const __m512i line = _mm512_load_si512(x + k);
      sum = _mm512_dpbusd_epi32(sum, ones, line);
      _mm512_store_si512(out + k - begin, line);
    }
  }
  return _mm512_reduce_add_epi32(_mm512_slli_epi32(sum, 7));
}

// Sums of one panel to y.
void finish(const LinearTask& task, const DenseQ8View& w, std::int64_t panel, std::int64_t first_token, std::int64_t tokens,
            const std::int32_t* sums, const std::int32_t* offsets) {
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t n = panel * kRows + half * 16;
    if (n >= w.n) return;
    const __mmask16 rows = static_cast<__mmask16>(w.n - n < 16 ? (1 << (w.n - n)) - 1 : 0xffff);
    const __m512 scale = _mm512_load_ps(w.scale + n);
    const __m512 bias = task.bias != nullptr ? _mm512_maskz_loadu_ps(rows, task.bias + n) : _mm512_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(sums + t * kRows + half * 16), _mm512_set1_epi32(offsets[t]));
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(_mm512_set1_ps(task.x_scale[first_token + t]), scale));
      if (task.bias != nullptr) value = _mm512_add_ps(value, bias);
      _mm512_mask_storeu_ps(task.y + (first_token + t) * task.ldy + n, rows, value);
    }
  }
}

}  // namespace

void run_dense_q8_avx512vnni(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunks = dense_q8_chunks(kDenseQ8TilingAvx512, w.k_padded);
  const std::int64_t chunk = dense_q8_chunk(kDenseQ8TilingAvx512, w.k_padded);
  const std::int64_t most = dense_q8_block(kDenseQ8TilingAvx512, w.k_padded);
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
