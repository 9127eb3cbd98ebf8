// dense_q8 on Advanced SIMD with the dot product extension: sdot by lane, 16 products an instruction.
//
// Bound: sdot (two a cycle on Cortex-A76 and Neoverse N1, four on Neoverse V1 and Apple's large cores). A register of weights
// is 8 rows' half, 4 rows x 4 columns; a register of x is 16 columns of one token, of which sdot takes four by lane: nothing is
// broadcast, and x and w are signed as they stand. The tile is 8 tokens x 8 rows: 16 accumulators, 16 loads for 64 sdot.
// One or two tokens run several steps of k in parallel to cover the latency (3-4 cycles).
//
// x is copied into scratch tile by tile, so that a tile's tokens stand beside each other ([k/16][tokens][16]): read in place
// they would share few L1 sets. A panel of 8 rows stays in L1 while the tiles pass. Tested in emulation, not yet timed on hardware.
#include <arm_neon.h>

#include "linear/dense_q8/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr std::int64_t kRows = kDenseQ8NeonDot.rows;
constexpr std::int64_t kTile = kDenseQ8NeonDotTile;

// DRAM streams: far enough ahead to cover the latency at full speed.
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

// Columns 4 * Lane .. + 3 of 8 rows, for T tokens.
template <int T, int Lane>
inline __attribute__((always_inline)) void step(int32x4_t (&low)[T], int32x4_t (&high)[T], const std::int8_t* codes,
                                                const int8x16_t (&x)[T]) {
  const int8x16_t w_low = vld1q_s8(codes + Lane * 32), w_high = vld1q_s8(codes + Lane * 32 + 16);
  UNROLL for (int t = 0; t < T; ++t) {
    low[t] = vdotq_laneq_s32(low[t], w_low, x[t], Lane);
    high[t] = vdotq_laneq_s32(high[t], w_high, x[t], Lane);
  }
}

// Four outputs of one token, or as many as there are.
inline void write(float* y, float32x4_t value, std::int64_t count) {
  if (count >= 4) {
    vst1q_f32(y, value);
    return;
  }
  float tail[4];
  vst1q_f32(tail, value);
  for (std::int64_t i = 0; i < count; ++i) y[i] = tail[i];
}

inline float32x4_t read(const float* from, std::int64_t count) {
  if (count >= 4) return vld1q_f32(from);
  float tail[4] = {};
  for (std::int64_t i = 0; i < count; ++i) tail[i] = from[i];
  return vld1q_f32(tail);
}

// y of T tokens and the 8 rows of a panel. x: the tile's copy.
template <int T>
void tile(const LinearTask& task, const DenseQ8View& w, std::int64_t panel, std::int64_t token, const std::int8_t* x) {
  const std::int8_t* codes = w.codes + panel * kRows * w.k_padded;
  constexpr int S = T == 1 ? 4 : T == 2 ? 2 : 1;  // steps of k in parallel
  const bool fetch = x == task.scratch;  // the first tile to see this panel
  int32x4_t low[S][T], high[S][T];
  UNROLL for (int s = 0; s < S; ++s) {
    UNROLL for (int t = 0; t < T; ++t) low[s][t] = high[s][t] = vdupq_n_s32(0);
  }
  for (std::int64_t k = 0; k < w.k_padded; k += 16, codes += 16 * kRows, x += 16 * T) {
    if (fetch) {
      __builtin_prefetch(codes + kPrefetchBytes);
      __builtin_prefetch(codes + kPrefetchBytes + 64);
    }
    int8x16_t columns[T];
    UNROLL for (int t = 0; t < T; ++t) columns[t] = vld1q_s8(x + 16 * t);
    step<T, 0>(low[0], high[0], codes, columns);
    step<T, 1>(low[1 % S], high[1 % S], codes, columns);
    step<T, 2>(low[2 % S], high[2 % S], codes, columns);
    step<T, 3>(low[3 % S], high[3 % S], codes, columns);
  }
  UNROLL for (int s = 1; s < S; ++s) {
    UNROLL for (int t = 0; t < T; ++t) {
      low[0][t] = vaddq_s32(low[0][t], low[s][t]);
      high[0][t] = vaddq_s32(high[0][t], high[s][t]);
    }
  }

  const std::int64_t n = panel * kRows, here = w.n - n;
  for (int half = 0; half < 2 && here > 4 * half; ++half) {
    const std::int64_t first = n + 4 * half, count = here - 4 * half;
    const float32x4_t scale = vld1q_f32(w.scale + first);
    const float32x4_t bias = task.bias != nullptr ? read(task.bias + first, count) : vdupq_n_f32(0);
    UNROLL for (int t = 0; t < T; ++t) {
      const float32x4_t factor = vmulq_n_f32(scale, task.x_scale[token + t]);
      float32x4_t value = vmulq_f32(vcvtq_f32_s32(half == 0 ? low[0][t] : high[0][t]), factor);
      if (task.bias != nullptr) value = vaddq_f32(value, bias);
      write(task.y + (token + t) * task.ldy + first, value, count);
    }
  }
}

void tile_of(std::int64_t tokens, const LinearTask& task, const DenseQ8View& w, std::int64_t panel, std::int64_t token,
             const std::int8_t* x) {
  switch (tokens) {
    case 1: return tile<1>(task, w, panel, token, x);
    case 2: return tile<2>(task, w, panel, token, x);
    case 3: return tile<3>(task, w, panel, token, x);
    case 4: return tile<4>(task, w, panel, token, x);
    case 5: return tile<5>(task, w, panel, token, x);
    case 6: return tile<6>(task, w, panel, token, x);
    case 7: return tile<7>(task, w, panel, token, x);
    default: return tile<8>(task, w, panel, token, x);
  }
}

}  // namespace

void run_dense_q8_neondot(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  auto* const copy = static_cast<std::int8_t*>(task.scratch);
  const std::int64_t block = dense_q8_neondot_block(w.k_padded);
  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    const std::int64_t tiles = (tokens + kTile - 1) / kTile;
    for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
      const std::int64_t next = tokens * (i + 1) / tiles;  // tiles differ by one token at most
      std::int8_t* const to = copy + t * w.k_padded;
      for (std::int64_t j = t; j < next; ++j) {
        const std::int8_t* from = static_cast<const std::int8_t*>(task.x) + (first + j) * task.ldx;
        for (std::int64_t k = 0; k < w.k_padded; k += 16) vst1q_s8(to + k * (next - t) + 16 * (j - t), vld1q_s8(from + k));
      }
      t = next;
    }
    for (std::int64_t panel = task.unit_begin; panel < task.unit_end; ++panel)
      for (std::int64_t i = 0, t = 0; i < tiles; ++i) {
        const std::int64_t next = tokens * (i + 1) / tiles;
        tile_of(next - t, task, w, panel, first + t, copy + t * w.k_padded);
        t = next;
      }
  }
}

}  // namespace aerogel
