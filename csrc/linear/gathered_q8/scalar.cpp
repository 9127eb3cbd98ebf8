// Walks the vectors of any geometry, one row at a time.
#include "linear/gathered_q8/layout.h"

namespace aerogel {

void run_gathered_q8_scalar(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  const std::int64_t rows = v.geometry.rows, half = 4 * rows;
  const auto* x = static_cast<const std::int8_t*>(task.x);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit)
    for (std::int64_t place = 0; place < v.block; ++place) {
      const std::int64_t n = unit * v.block + v.row_at[unit * v.block + place];
      if (n >= v.n) continue;
      const std::int64_t group = place / rows, slot = 4 * (place % rows);
      for (std::int64_t t = 0; t < task.m; ++t) {
        std::int32_t sum = 0;
        for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
          const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block + group;
          const std::int8_t* from = x + t * task.ldx + chunk * v.geometry.chunk;
          for (std::int64_t i = segment[0]; i < segment[1]; ++i) {
            const std::int8_t* window = from + v.window[i] * v.geometry.step;
            const std::uint8_t* index = v.vectors + i * 2 * half + slot;
            for (int s = 0; s < 4; ++s) sum += static_cast<std::int8_t>(index[half + s]) * window[index[s]];
          }
        }
        const float factor = task.x_scale[t] * v.scale[n];
        float y = static_cast<float>(sum) * factor;
        if (task.bias != nullptr) y = y + task.bias[n];
        task.y[t * task.ldy + n] = y;
      }
    }
}

}  // namespace aerogel
