// gathered_q8 on Advanced SIMD with the dot product extension: tbl over two registers gathers four activations for each of 4 rows out
// of a 32-column window, sdot multiplies and adds all 16, for every one of 8 tokens whose sums stay in registers; index and
// value vectors are loaded once for them. x is signed as it stands.
//
// Bound by the vector pipes: tbl (two registers) and sdot are one cycle a pair on Cortex-A76 and Neoverse N1, whose dense kernel
// needs half a cycle for its sdot; on Apple's cores tbl is two operations (then a pair is three to the dense kernel's one).
// A token's two registers are one ldp. Not yet timed on hardware.
//
// Scratch holds, for one chunk of K and 8 tokens, every window of step 8 whole ([window][8][32]), so that a tile's loads are
// displacements of one address and none crosses a cache line: columns stand there four times, 768 of them in 24 KB. Of the slots
// .96/.90/.84/.64/.40 are used at 50/70/80/90/95 % sparsity (step 16: .94/.88/.79/.61/.38).
#include <arm_neon.h>

#include "linear/gathered_q8/layout.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTokens = kGatheredNeonDotTokens;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 8")

// windows[w][T][32] = x[t][8 w .. 8 w + 32) of the chunk that begins at x and has `columns` columns (a multiple of 16 are
// readable). What would lie behind them is never used.
template <int T>
void copy_windows(const std::int8_t* x, std::int64_t ldx, std::int64_t columns, std::int8_t* windows) {
  const std::int64_t last = (columns + 15) / 16 * 2 - 1;
  for (std::int64_t w = 0; w <= last; ++w)
    for (int t = 0; t < T; ++t) {
      const std::int8_t* from = x + t * ldx + 8 * w;
      const int8x16_t half = w < last ? vld1q_s8(from) : vcombine_s8(vld1_s8(from), vdup_n_s8(0));
      std::int8_t* to = windows + (w * T + t) * 32;
      vst1q_s8(to, half);
      if (w >= 2) vst1q_s8(to - 2 * T * 32 + 16, half);
    }
}

// One group of 4 rows: vectors [begin, end) for T tokens. sums: [T][4]. Few tokens take several vectors at a time to cover
// the latency of sdot.
template <int T>
void add_group(const GatheredView& v, std::int64_t begin, std::int64_t end, const std::int8_t* windows, bool first,
               std::int32_t* sums) {
  constexpr int S = T == 8 ? 1 : T == 4 ? 2 : 4;
  int32x4_t sum[S][T];
  UNROLL for (int t = 0; t < T; ++t) {
    sum[0][t] = first ? vdupq_n_s32(0) : vld1q_s32(sums + 4 * t);
    UNROLL for (int s = 1; s < S; ++s) sum[s][t] = vdupq_n_s32(0);
  }
  const std::uint8_t* vector = v.vectors + begin * 32;
  const std::uint16_t* window = v.window + begin;
  const std::uint16_t* const last = v.window + end;
  for (const std::uint16_t* const whole = last - (end - begin) % S; window != whole; window += S, vector += 32 * S) {
    UNROLL for (int s = 0; s < S; ++s) {
      if (s % 2 == 0) __builtin_prefetch(vector + 32 * s + 16384);  // less far does not help a stream from memory
      const uint8x16_t index = vld1q_u8(vector + 32 * s);
      const int8x16_t value = vreinterpretq_s8_u8(vld1q_u8(vector + 32 * s + 16));
      const std::int8_t* at = windows + std::size_t{window[s]} * (T * 32);
      UNROLL for (int t = 0; t < T; ++t) {
        const int8x16x2_t columns = {{vld1q_s8(at + 32 * t), vld1q_s8(at + 32 * t + 16)}};
        sum[s][t] = vdotq_s32(sum[s][t], vqtbl2q_s8(columns, index), value);
      }
    }
  }
  for (; window != last; ++window, vector += 32) {
    const uint8x16_t index = vld1q_u8(vector);
    const int8x16_t value = vreinterpretq_s8_u8(vld1q_u8(vector + 16));
    const std::int8_t* at = windows + std::size_t{*window} * (T * 32);
    UNROLL for (int t = 0; t < T; ++t) {
      const int8x16x2_t columns = {{vld1q_s8(at + 32 * t), vld1q_s8(at + 32 * t + 16)}};
      sum[0][t] = vdotq_s32(sum[0][t], vqtbl2q_s8(columns, index), value);
    }
  }
  UNROLL for (int t = 0; t < T; ++t) {
    UNROLL for (int s = 1; s < S; ++s) sum[0][t] = vaddq_s32(sum[0][t], sum[s][t]);
    vst1q_s32(sums + 4 * t, sum[0][t]);
  }
}

// out[i] = element i of each of the 4 registers at from, from + step, ..
inline __attribute__((always_inline)) void transpose4(const std::int32_t* from, std::int64_t step, int32x4_t (&out)[4]) {
  const int32x4_t r0 = vld1q_s32(from), r1 = vld1q_s32(from + step), r2 = vld1q_s32(from + 2 * step), r3 = vld1q_s32(from + 3 * step);
  const int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(r0, r1)), b = vreinterpretq_s64_s32(vtrn2q_s32(r0, r1));
  const int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(r2, r3)), d = vreinterpretq_s64_s32(vtrn2q_s32(r2, r3));
  out[0] = vreinterpretq_s32_s64(vtrn1q_s64(a, c));
  out[1] = vreinterpretq_s32_s64(vtrn1q_s64(b, d));
  out[2] = vreinterpretq_s32_s64(vtrn2q_s64(a, c));
  out[3] = vreinterpretq_s32_s64(vtrn2q_s64(b, d));
}

// sums of one unit: [group][T][4], in sorted order, back into the order of the rows through memory: [row][kTokens].
template <int T>
void write_unit(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t token, const std::int32_t* sums) {
  std::int32_t in_order[64 * kTokens];
  const std::uint8_t* row_at = v.row_at + unit * v.block;
  for (std::int64_t p = 0; p < v.block; p += 4, sums += 4 * T) {
    if (T >= 4) {
      for (int t = 0; t < T; t += 4) {
        int32x4_t row[4];
        transpose4(sums + 4 * t, 4, row);
        UNROLL for (int lane = 0; lane < 4; ++lane) vst1q_s32(in_order + row_at[p + lane] * kTokens + t, row[lane]);
      }
    } else {
      for (int lane = 0; lane < 4; ++lane)
        for (int t = 0; t < T; ++t) in_order[row_at[p + lane] * kTokens + t] = sums[4 * t + lane];
    }
  }
  for (std::int64_t r = 0; r < v.block && unit * v.block + r < v.n; r += 4) {
    const std::int64_t n = unit * v.block + r, here = v.n - n < 4 ? v.n - n : 4;
    float tail[4] = {};
    const float* bias = task.bias != nullptr ? task.bias + n : nullptr;
    if (bias != nullptr && here < 4) {
      for (std::int64_t i = 0; i < here; ++i) tail[i] = bias[i];
      bias = tail;
    }
    const float32x4_t scale = vld1q_f32(v.scale + n);
    for (int t = 0; t < T; t += 4) {
      int32x4_t sum[4];
      transpose4(in_order + r * kTokens + t, kTokens, sum);
      UNROLL for (int j = 0; j < 4; ++j) {
        if (t + j >= T) break;
        const float32x4_t factor = vmulq_n_f32(scale, task.x_scale[token + t + j]);
        float32x4_t value = vmulq_f32(vcvtq_f32_s32(sum[j]), factor);
        if (bias != nullptr) value = vaddq_f32(value, vld1q_f32(bias));
        float* y = task.y + (token + t + j) * task.ldy + n;
        if (here == 4) {
          vst1q_f32(y, value);
        } else {
          float part[4];
          vst1q_f32(part, value);
          for (std::int64_t i = 0; i < here; ++i) y[i] = part[i];
        }
      }
    }
  }
}

// Tokens [t, t + T) of units [unit, unit_end), at most kGatheredNeonDotSetRows rows.
template <int T>
void run_tile(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t unit_end, std::int64_t t) {
  auto* const windows = static_cast<std::int8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(windows + v.geometry.chunk / 8 * kTokens * 32);
  const std::int64_t groups = v.groups_per_block;
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int64_t column = chunk * v.geometry.chunk;
    const std::int64_t columns = v.k - column < v.geometry.chunk ? v.k - column : v.geometry.chunk;
    copy_windows<T>(static_cast<const std::int8_t*>(task.x) + t * task.ldx + column, task.ldx, columns, windows);
    std::int32_t* to = sums;
    for (std::int64_t u = unit; u < unit_end; ++u) {
      const std::int64_t* segment = v.segment + (u * v.chunks + chunk) * groups;
      for (std::int64_t group = 0; group < groups; ++group, to += 4 * T)
        add_group<T>(v, segment[group], segment[group + 1], windows, chunk == 0, to);
    }
  }
  for (std::int64_t u = unit; u < unit_end; ++u, sums += groups * 4 * T) write_unit<T>(task, v, u, t, sums);
}

// Units from `unit` on whose vectors fill half of a 512 KB L2, so that the next token tile finds them there.
std::int64_t end_of_set(const LinearTask& task, const GatheredView& v, std::int64_t unit) {
  const std::int64_t segments = v.chunks * v.groups_per_block, limit = v.segment[unit * segments] + (256 << 10) / 32;
  std::int64_t end = unit + 1;
  while (end < task.unit_end && (end + 1 - unit) * v.block <= kGatheredNeonDotSetRows && v.segment[(end + 1) * segments] <= limit)
    ++end;
  return end;
}

}  // namespace

void run_gathered_q8_neondot(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end;) {
    const std::int64_t end = end_of_set(task, v, unit);
    for (std::int64_t t = 0; t < task.m;) {
      const std::int64_t left = task.m - t;
      if (left >= 8) {
        run_tile<8>(task, v, unit, end, t);
        t += 8;
      } else if (left >= 4) {
        run_tile<4>(task, v, unit, end, t);
        t += 4;
      } else if (left >= 2) {
        run_tile<2>(task, v, unit, end, t);
        t += 2;
      } else {
        run_tile<1>(task, v, unit, end, t);
        t += 1;
      }
    }
    unit = end;
  }
}

}  // namespace aerogel
