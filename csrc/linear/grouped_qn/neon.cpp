// grouped_qn on NEON: a group of 16 rows is decoded to int8 once for a block of tokens, then smull of four columns of a row and those
// of x, and sadalp into int32.
//
// Bound: 8 smull and 8 sadalp for 64 weights of a token. Not timed: checked under qemu.
#include <arm_neon.h>

#include "linear/grouped_qn/layout.h"
#include "linear/linear.h"
#include "ops/row_scalar.h"

namespace aerogel {
namespace {

constexpr std::int64_t kRows = kQnRows;

// 16 bytes of each of four times four rows: one quad.
struct Quad {
  uint8x16_t rows[4];
};

inline uint8x16_t nibble(const std::uint8_t* at, bool high) {
  const uint8x16_t both = vld1q_u8(at);
  return high ? vshrq_n_u8(both, 4) : vandq_u8(both, vdupq_n_u8(15));
}

// `count` bits from bit `from` on, at bit `to`.
inline uint8x16_t field(uint8x16_t v, int from, int count, int to) {
  const uint8x16_t low = vandq_u8(vshlq_u8(v, vdupq_n_s8(static_cast<std::int8_t>(-from))), vdupq_n_u8(static_cast<std::uint8_t>((1 << count) - 1)));
  return vshlq_u8(low, vdupq_n_s8(static_cast<std::int8_t>(to)));
}

// Quad i of 16 columns.
Quad codes_of(int bits, const std::uint8_t* at, int i) {
  Quad made;
  const int pairs = bits == 6 ? 128 : 0, ones = bits == 3 ? 64 : 128;
  for (int r = 0; r < 4; ++r) {
    const int half = r / 2, b = r % 2 * 16;
    uint8x16_t code = vdupq_n_u8(0);
    if (bits >= 4) code = nibble(at + 32 * i + b, half != 0);
    if (bits == 2 || bits == 3 || bits == 6)
      code = vorrq_u8(code, field(vld1q_u8(at + pairs + 32 * (i / 2) + b), 4 * (i % 2) + 2 * half, 2, bits == 6 ? 4 : 0));
    if (bits == 3 || bits == 5) code = vorrq_u8(code, field(vld1q_u8(at + ones + b), 2 * i + half, 1, bits == 3 ? 2 : 4));
    made.rows[r] = code;
  }
  return made;
}

// v of layout.h for a group: [columns / 4][64].
void decode_group(const GroupedQnPart& w, const std::uint8_t* group, std::int8_t* out) {
  const uint8x16_t high = vld1q_u8(w.high), low = vld1q_u8(w.low);
  const uint8x16_t levels = vorrq_u8(vshlq_n_u8(high, 4), low);
  for (std::int64_t quad = 0; quad < w.group / 4; ++quad) {
    const int i = static_cast<int>(quad % 4);
    const std::uint8_t* at = group + quad / 4 * (w.bits == 8 ? 128 : grouped_qn_bytes16(w.bits));
    Quad code = codes_of(w.bits == 8 ? 4 : w.bits, at, i);
    uint8x16_t centre = vdupq_n_u8(static_cast<std::uint8_t>(w.centre));
    if (w.bits == 8) {
      const Quad second = codes_of(4, at + w.group_bytes / 2, i);
      for (int r = 0; r < 4; ++r) code.rows[r] = vorrq_u8(vshlq_n_u8(code.rows[r], 4), second.rows[r]);
    }
    if (w.table)
      for (int r = 0; r < 4; ++r) code.rows[r] = vqtbl1q_u8(levels, code.rows[r]);
    if (w.bits == 8 || w.table) centre = vdupq_n_u8(128);
    for (int r = 0; r < 4; ++r) vst1q_s8(out + quad * 64 + r * 16, vreinterpretq_s8_u8(vsubq_u8(code.rows[r], centre)));
  }
}

inline float32x4_t half_floats(const std::uint16_t* at, bool bf16) {
  const uint16x4_t bits = vld1_u16(at);
  return bf16 ? vreinterpretq_f32_u32(vshll_n_u16(bits, 16)) : vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

// Scales and minima of a group, 16 rows.
void expand(const GroupedQnPart& w, std::int64_t k, std::int64_t unit, std::int64_t g, float* scale, float* min) {
  const std::int64_t block = (unit * (k / w.block) + g * w.group / w.block) * kRows, here = (unit * (k / w.group) + g) * kRows;
  float subs[16], submins[16];
  for (int r = 0; r < 16; ++r) {
    subs[r] = w.sub == nullptr ? 1.0f : static_cast<float>(w.sub[here + r]);
    submins[r] = w.submin == nullptr ? 1.0f : static_cast<float>(w.submin[here + r]);
  }
  for (int r = 0; r < 16; r += 4) {
    float32x4_t by = half_floats(w.scale + block + r, w.bf16);
    if (w.sub != nullptr) by = vmulq_f32(by, vld1q_f32(subs + r));
    vst1q_f32(scale + r, by);
    if (w.min == nullptr) continue;
    float32x4_t plus = half_floats(w.min + block + r, false);
    if (w.submin != nullptr) plus = vnegq_f32(vmulq_f32(plus, vld1q_f32(submins + r)));
    vst1q_f32(min + r, vaddq_f32(plus, vmulq_f32(by, vdupq_n_f32(static_cast<float>(w.shift)))));
  }
}

// total[16] += a group of one token.
void group_of(std::int64_t columns, const std::int8_t* values, const std::int8_t* x, const float* scale, float step, float* total) {
  int32x4_t sums[8];
  for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  for (std::int64_t quad = 0; quad < columns / 4; ++quad) {
    std::int32_t four;
    __builtin_memcpy(&four, x + 4 * quad, sizeof four);
    const int8x8_t xs = vreinterpret_s8_s32(vdup_n_s32(four));
    for (int r = 0; r < 4; ++r) {
      const int8x16_t v = vld1q_s8(values + quad * 64 + r * 16);
      sums[2 * r] = vpadalq_s16(sums[2 * r], vmull_s8(vget_low_s8(v), xs));
      sums[2 * r + 1] = vpadalq_s16(sums[2 * r + 1], vmull_s8(vget_high_s8(v), xs));
    }
  }
  for (int r = 0; r < 4; ++r) {
    const float32x4_t sum = vcvtq_f32_s32(vpaddq_s32(sums[2 * r], sums[2 * r + 1]));
    vst1q_f32(total + 4 * r, vfmaq_f32(vld1q_f32(total + 4 * r), sum, vmulq_f32(vld1q_f32(scale + 4 * r), vdupq_n_f32(step))));
  }
}

// The tokens of a block, quantized.
struct Tokens {
  std::int8_t* x;      // [kQnNeonTokens, k]
  float* scale;        // [kQnNeonTokens, k / 32]
  float* total;        // [kQnNeonTokens, 16]
  std::int64_t count;
};

void panel(const LinearTask& task, const GroupedQnPart& w, std::int64_t k, std::int64_t unit, const Tokens& tokens, std::int64_t first) {
  std::int8_t values[32 * 16];
  float scale[16], min[16];
  for (std::int64_t i = 0; i < tokens.count * kRows; ++i) tokens.total[i] = 0.0f;
  for (std::int64_t g = 0; g < k / w.group; ++g) {
    decode_group(w, w.codes + (unit * (k / w.group) + g) * w.group_bytes, values);
    expand(w, k, unit, g, scale, min);
    for (std::int64_t t = 0; t < tokens.count; ++t) {
      const std::int8_t* const x = tokens.x + t * k + g * w.group;
      const float step = tokens.scale[t * (k / kQnInput) + g * w.group / kQnInput];
      float* const total = tokens.total + t * kRows;
      group_of(w.group, values, x, scale, step, total);
      if (w.min == nullptr) continue;
      std::int32_t sum = 0;
      for (std::int64_t c = 0; c < w.group; c += 16) sum += vaddlvq_s8(vld1q_s8(x + c));
      const float32x4_t shift = vdupq_n_f32(static_cast<float>(sum) * step);
      for (int r = 0; r < 16; r += 4) vst1q_f32(total + r, vfmaq_f32(vld1q_f32(total + r), vld1q_f32(min + r), shift));
    }
  }
  for (std::int64_t t = 0; t < tokens.count; ++t)
    for (std::int64_t r = 0; r < kRows && unit * kRows + r < w.n; ++r) {
      const std::int64_t n = w.first_row + unit * kRows + r;
      const float total = tokens.total[t * kRows + r];
      task.y[(first + t) * task.ldy + n] = task.bias != nullptr ? total + task.bias[n] : total;
    }
}

}  // namespace

void run_grouped_qn_neon(const LinearTask& task) {
  const GroupedQnView& w = *static_cast<const GroupedQnView*>(task.weight);
  const auto* x = static_cast<const float*>(task.x);
  auto* const scale = static_cast<float*>(task.scratch);
  float* const total = scale + kQnNeonTokens * (w.k / kQnInput);
  auto* const codes = reinterpret_cast<std::int8_t*>(total + kQnNeonTokens * kRows);
  for (std::int64_t first = 0; first < task.m; first += kQnNeonTokens) {
    const Tokens tokens = {codes, scale, total, task.m - first < kQnNeonTokens ? task.m - first : kQnNeonTokens};
    for (std::int64_t t = 0; t < tokens.count; ++t)
      for (std::int64_t c = 0; c < w.k; c += kQnInput)
        quantize_row_scalar(x + (first + t) * task.ldx + c, kQnInput, codes + t * w.k + c, kQnInput, scale + t * (w.k / kQnInput) + c / kQnInput);
    for (std::int64_t p = 0; p < w.count; ++p) {
      const GroupedQnPart& part = w.parts[p];
      const std::int64_t begin = task.unit_begin - part.first_unit, end = task.unit_end - part.first_unit;
      for (std::int64_t unit = begin < 0 ? 0 : begin; unit < (end < part.units ? end : part.units); ++unit)
        panel(task, part, w.k, unit, tokens, first);
    }
  }
}

}  // namespace aerogel
