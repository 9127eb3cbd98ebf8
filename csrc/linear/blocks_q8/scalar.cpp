// Walks the blocks as they are stored, one row at a time.
#include "linear/blocks_q8/layout.h"

namespace aerogel {

void run_blocks_q8_scalar(const LinearTask& task) {
  const auto& v = *static_cast<const BlocksView*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t end = task.unit_end * kBlocksRows < v.n ? task.unit_end * kBlocksRows : v.n;
  for (std::int64_t n = task.unit_begin * kBlocksRows; n < end; ++n)
    for (std::int64_t t = 0; t < task.m; ++t) {
      std::int32_t sum = 0;
      for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
        const std::int8_t* from = x + t * task.ldx + chunk * v.chunk;
        const std::int64_t list = chunk * v.n + n;
        for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i)
          for (int j = 0; j < 4; ++j) sum += v.blocks[i].weight[j] * from[v.blocks[i].column / 2 + j];
      }
      const float factor = task.x_scale[t] * v.scale[n];
      float y = static_cast<float>(sum) * factor;
      if (task.bias != nullptr) y = y + task.bias[n];
      task.y[t * task.ldy + n] = y;
    }
}

}  // namespace aerogel
