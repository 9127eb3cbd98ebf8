// grouped_q8 on AVX-512 VNNI: the tile of dense_q8 (vpdpbusd, weights + 128 as the unsigned side), whose int32 sums start at
// -128 * sum x of the group and become floats at its end, times its scales: 6 instructions for 32 rows of a token, where 32
// columns cost it 16 vpdpbusd. Zen 5, 768x768 in cache, times as fast as dense_q8 at 1 / 4 / 16 / 128 tokens: 1.0 .87 .90
// .87 with groups of 128, .9 .8 .84 .80 with 64, .83 .74 .74 .68 with 32. Tiles of 6 tokens with all sums in registers: 1.06
// times as fast with 32, but 3 % slower with 128 and at 16 tokens.
#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/grouped_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

#define UNROLL _Pragma("GCC unroll 16")

// sums[T, 32] (+)= over the groups of a chunk, scales[group, 32] * float(x[T, group] . w[32, group]^T); offsets[T, step] holds what
// + 128 adds to a group, negative.
template <int T, bool Prefetch>
void group_tile(const std::int8_t* codes, const std::int8_t* x, std::int64_t columns, std::int64_t group, const float* scales,
                const std::int32_t* offsets, std::int64_t step, float* sums, bool accumulate) {
  constexpr int S = T == 1 ? 4 : T == 2 ? 2 : 1;  // steps of k in parallel
  Codes<Prefetch> w{codes};
  if (!accumulate)
    for (int t = 0; t < T; ++t) {
      _mm512_store_ps(sums + t * kRows, _mm512_setzero_ps());
      _mm512_store_ps(sums + t * kRows + 16, _mm512_setzero_ps());
    }
  for (std::int64_t begin = 0; begin < columns; begin += group, scales += kRows, ++offsets) {
    const std::int64_t end = columns - begin < group ? columns : begin + group;
    __m512i low[S][T], high[S][T];
    UNROLL for (int s = 0; s < S; ++s) {
      UNROLL for (int t = 0; t < T; ++t)
        low[s][t] = high[s][t] = s == 0 ? _mm512_set1_epi32(offsets[t * step]) : _mm512_setzero_si512();
    }
    for (std::int64_t k = begin; k < end; k += 4 * S) {
      UNROLL for (int s = 0; s < S; ++s) {
        const Quad quad = w.next();
        UNROLL for (int t = 0; t < T; ++t)
          multiply_add(low[s][t], high[s][t], quad.low, quad.high, reinterpret_cast<const Four*>(x + t * kStride + k + 4 * s));
      }
    }
    const __m512 scale_low = _mm512_load_ps(scales), scale_high = _mm512_load_ps(scales + 16);
    UNROLL for (int t = 0; t < T; ++t) {
      UNROLL for (int s = 1; s < S; ++s) {
        low[0][t] = _mm512_add_epi32(low[0][t], low[s][t]);
        high[0][t] = _mm512_add_epi32(high[0][t], high[s][t]);
      }
      float* const to = sums + t * kRows;
      _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), _mm512_mul_ps(scale_low, _mm512_cvtepi32_ps(low[0][t]))));
      _mm512_store_ps(to + 16, _mm512_add_ps(_mm512_load_ps(to + 16), _mm512_mul_ps(scale_high, _mm512_cvtepi32_ps(high[0][t]))));
    }
  }
}

template <bool Prefetch, class... Args>
void group_tile_of(std::int64_t tokens, Args... args) {
  switch (tokens) {
    case 1: return group_tile<1, Prefetch>(args...);
    case 2: return group_tile<2, Prefetch>(args...);
    case 3: return group_tile<3, Prefetch>(args...);
    case 4: return group_tile<4, Prefetch>(args...);
    case 5: return group_tile<5, Prefetch>(args...);
    case 6: return group_tile<6, Prefetch>(args...);
    case 7: return group_tile<7, Prefetch>(args...);
    case 8: return group_tile<8, Prefetch>(args...);
    case 9: return group_tile<9, Prefetch>(args...);
    case 10: return group_tile<10, Prefetch>(args...);
    case 11: return group_tile<11, Prefetch>(args...);
    default: return group_tile<12, Prefetch>(args...);
  }
}

// Columns of one token into the tiling, at most a group; returns -128 * sum x. Sixteen at a time, as groups are.
std::int32_t copy_group(const std::int8_t* x, std::int64_t columns, std::int8_t* out) {
  __m128i sum = _mm_setzero_si128();
  const __m128i ones = _mm_set1_epi8(1);
  for (std::int64_t k = 0; k < columns; k += 16) {
    const __m128i line = _mm_load_si128(reinterpret_cast<const __m128i*>(x + k));
    sum = _mm_dpbusd_epi32(sum, ones, line);
    _mm_store_si128(reinterpret_cast<__m128i*>(out + k), line);
  }
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return -128 * _mm_cvtsi128_si32(sum);
}

// Sums of one panel to y.
void group_finish(const LinearTask& task, std::int64_t outputs, std::int64_t panel, std::int64_t first_token, std::int64_t tokens,
                  const float* sums) {
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t n = panel * kRows + half * 16;
    if (n >= outputs) return;
    const __mmask16 rows = static_cast<__mmask16>(outputs - n < 16 ? (1 << (outputs - n)) - 1 : 0xffff);
    const __m512 bias = task.bias != nullptr ? _mm512_maskz_loadu_ps(rows, task.bias + n) : _mm512_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      __m512 value = _mm512_mul_ps(_mm512_load_ps(sums + t * kRows + half * 16), _mm512_set1_ps(task.x_scale[first_token + t]));
      if (task.bias != nullptr) value = _mm512_add_ps(value, bias);
      _mm512_mask_storeu_ps(task.y + (first_token + t) * task.ldy + n, rows, value);
    }
  }
}

}  // namespace

void run_grouped_q8_avx512vnni(const LinearTask& task) {
  const GroupedQ8View& w = *static_cast<const GroupedQ8View*>(task.weight);
  const DenseQ8Tiling& tiling = kGroupedQ8TilingAvx512;
  static_assert(kGroupedQ8TilingAvx512.stride == kStride && kGroupedQ8TilingAvx512.tile == kTile, "the tile of dense_q8");
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t chunk = grouped_q8_chunk(tiling, w.group), chunks = grouped_q8_chunks(tiling, w.k_padded, w.group);
  const std::int64_t most = dense_q8_block(tiling, w.k_padded);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + kTile - 1) / kTile * kTile;
  const std::int64_t held = task.m < most ? task.m : most;

  auto* const copied_x = static_cast<std::int8_t*>(task.scratch);
  auto* const sums = reinterpret_cast<float*>(copied_x + chunks * held * kStride);
  auto* const offsets = reinterpret_cast<std::int32_t*>(sums + held * kRows);

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t g = 0; g < w.groups; ++g) {
        const std::int64_t k = g * w.group, columns = w.k_padded - k < w.group ? w.k_padded - k : w.group;
        offsets[t * w.groups + g] =
            copy_group(x + (first + t) * task.ldx + k, columns, copied_x + (k / chunk * held + t) * kStride + k % chunk);
      }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel) {
      const std::int8_t* codes = w.codes + panel * kRows * w.k_padded;
      const float* scales = w.scale + panel * w.groups * kRows;
      for (std::int64_t c = 0; c < chunks; ++c, scales += chunk / w.group * kRows) {
        const std::int64_t k = c * chunk, columns = w.k_padded - k < chunk ? w.k_padded - k : chunk;
        const std::int8_t* chunk_x = copied_x + c * held * kStride;
        for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
          const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
          const std::int8_t* const tile_x = chunk_x + t * kStride;
          const std::int32_t* const tile_offsets = offsets + t * w.groups + k / w.group;
          if (i == 0)
            group_tile_of<true>(next, codes, tile_x, columns, w.group, scales, tile_offsets, w.groups, sums, c != 0);
          else
            group_tile_of<false>(next - t, codes, tile_x, columns, w.group, scales, tile_offsets, w.groups, sums + t * kRows, c != 0);
          t = next;
        }
        codes += columns * kRows;
      }
      group_finish(task, w.n, panel, first, tokens, sums);
    }
  }
}

#undef UNROLL

}  // namespace aerogel
