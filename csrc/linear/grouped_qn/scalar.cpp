// The reference: group by group, in the order of layout.h.
#include <cmath>

#include "base/bf16.h"
#include "base/f16.h"
#include "linear/grouped_qn/layout.h"
#include "linear/linear.h"
#include "ops/row_scalar.h"

namespace aerogel {
namespace {

constexpr std::int64_t R = kQnRows;

// Code of row r (of 16) and a column of 16, in the bytes of those columns.
int code_at(int bits, const std::uint8_t* from, std::int64_t r, std::int64_t column) {
  const auto i = static_cast<int>(column / 4), at = static_cast<int>(r * 4 + column % 4), b = at % 32, half = at / 32;
  const auto nibble = [&] { return from[32 * i + b] >> (4 * half) & 15; };
  const auto pair = [&](int begin) { return from[begin + 32 * (i / 2) + b] >> (4 * (i % 2) + 2 * half) & 3; };
  const auto one = [&](int begin) { return from[begin + b] >> (2 * i + half) & 1; };
  switch (bits) {
    case 2: return pair(0);
    case 3: return pair(0) | one(64) << 2;
    case 5: return nibble() | one(128) << 4;
    case 6: return nibble() | pair(128) << 4;
    default: return nibble();
  }
}

// v of layout.h. column: in the group.
int value_at(const GroupedQnPart& w, const std::uint8_t* group, std::int64_t r, std::int64_t column) {
  const std::int64_t sixteen = column / 16, in = column % 16;
  if (w.bits == 8) {
    const int high = code_at(4, group + sixteen * 128, r, in);
    return (high - 8) * 16 + code_at(4, group + w.group_bytes / 2 + sixteen * 128, r, in);
  }
  const int code = code_at(w.bits, group + sixteen * grouped_qn_bytes16(w.bits), r, in);
  return w.table ? (w.high[code] - 8) * 16 + w.low[code] : code - w.centre;
}

void run_row(const GroupedQnPart& w, std::int64_t k, std::int64_t unit, std::int64_t r, const std::int8_t* x, const float* x_scale,
             float* total) {
  const std::int64_t groups = k / w.group;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t block = (unit * (k / w.block) + g * w.group / w.block) * R + r, here = (unit * groups + g) * R + r;
    float scale = w.bf16 ? bf16_to_float(w.scale[block]) : f16_to_float(w.scale[block]);
    if (w.sub != nullptr) scale = scale * static_cast<float>(w.sub[here]);
    std::int32_t sum = 0, sum_x = 0;
    for (std::int64_t c = 0; c < w.group; ++c) {
      sum += x[g * w.group + c] * value_at(w, w.codes + (unit * groups + g) * w.group_bytes, r, c);
      sum_x += x[g * w.group + c];
    }
    const float step = x_scale[g * w.group / kQnInput];
    const float product = scale * step;
    *total = std::fma(static_cast<float>(sum), product, *total);
    if (w.min == nullptr) continue;
    float min = f16_to_float(w.min[block]);
    if (w.submin != nullptr) min = -(min * static_cast<float>(w.submin[here]));
    const float shifted = scale * static_cast<float>(w.shift);
    min = min + shifted;
    const float shift_x = static_cast<float>(sum_x) * step;
    *total = std::fma(min, shift_x, *total);
  }
}

}  // namespace

void run_grouped_qn_scalar(const LinearTask& task) {
  const GroupedQnView& w = *static_cast<const GroupedQnView*>(task.weight);
  const auto* x = static_cast<const float*>(task.x);
  auto* const scales = static_cast<float*>(task.scratch);
  auto* const codes = reinterpret_cast<std::int8_t*>(scales + w.k / kQnInput);
  for (std::int64_t m = 0; m < task.m; ++m) {
    for (std::int64_t c = 0; c < w.k; c += kQnInput) quantize_row_scalar(x + m * task.ldx + c, kQnInput, codes + c, kQnInput, scales + c / kQnInput);
    for (std::int64_t p = 0; p < w.count; ++p) {
      const GroupedQnPart& part = w.parts[p];
      for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
        const std::int64_t here = unit - part.first_unit;
        if (here < 0 || here >= part.units) continue;
        for (std::int64_t r = 0; r < R && here * R + r < part.n; ++r) {
          float total = 0.0f;
          run_row(part, w.k, here, r, codes, scales, &total);
          const std::int64_t n = part.first_row + here * R + r;
          task.y[m * task.ldy + n] = task.bias != nullptr ? total + task.bias[n] : total;
        }
      }
    }
  }
}

}  // namespace aerogel
