// The whole of a task for the x86 kernels of grouped_qn: scratch shared out, tokens in blocks, panels of each part. The kernels' own are
// Copies, which holds a block's codes and scales, and Block, which multiplies it with a panel.
#pragma once

#include <cstdint>

#include "linear/grouped_qn/layout.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

template <class Copies, class Block>
inline void run_panels(const LinearTask& task, const GroupedQnTiling& tiling) {
  const GroupedQnView& w = *static_cast<const GroupedQnView*>(task.weight);
  const auto* x = static_cast<const float*>(task.x);
  const std::int64_t chunk = grouped_qn_chunk(tiling, w.k), chunks = (w.k + chunk - 1) / chunk, most = grouped_qn_block(tiling, w.k);
  const std::int64_t blocks = (task.m + most - 1) / most;
  const std::int64_t block = ((task.m + blocks - 1) / blocks + tiling.tile - 1) / tiling.tile * tiling.tile;
  const std::int64_t held = task.m < most ? task.m : most;

  auto* const copied = static_cast<std::int8_t*>(task.scratch);
  auto* const bytes = reinterpret_cast<std::uint8_t*>(copied + chunks * held * tiling.stride);
  auto* const scale = reinterpret_cast<float*>(bytes + 2 * kQnRows * tiling.chunk);
  float* const min = scale + tiling.chunk / 16 * kQnRows;
  float* const total = min + tiling.chunk / 16 * kQnRows;
  float* const x_scale = total + held * kQnRows;
  auto* const sums = reinterpret_cast<std::int32_t*>(x_scale + held * (w.k / 32));
  float* const shift16 = reinterpret_cast<float*>(sums + held * (w.k / 16));
  const Copies copies = {copied, x_scale, sums, shift16, shift16 + held * (w.k / 16), held, chunk, w.k};

  for (std::int64_t first = 0; first < task.m; first += block) {
    const std::int64_t tokens = task.m - first < block ? task.m - first : block;
    for (std::int64_t t = 0; t < tokens; ++t) copies.fill(x + (first + t) * task.ldx, t);
    const Block here = {task, w, copies, bytes, scale, min, total, first, tokens};
    for (std::int64_t p = 0; p < w.count; ++p) {
      const GroupedQnPart& part = w.parts[p];
      const std::int64_t begin = task.unit_begin - part.first_unit, end = task.unit_end - part.first_unit;
      for (std::int64_t unit = begin < 0 ? 0 : begin; unit < (end < part.units ? end : part.units); ++unit) here.panel(part, unit);
    }
  }
}

}  // namespace
}  // namespace aerogel
