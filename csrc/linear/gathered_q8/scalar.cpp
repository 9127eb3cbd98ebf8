// Walks the vectors of any geometry, one row at a time.
#include "linear/gathered_q8/layout.h"

namespace aerogel {

void run_gathered_q8_scalar(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  const std::int64_t rows = v.geometry.rows;
  const std::int64_t bytes = gathered_vector_bytes(v.geometry), index_bytes = gathered_index_bytes(v.geometry);
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
            const std::uint8_t* vector = v.vectors + i * bytes;
            for (std::int64_t s = slot; s < slot + 4; ++s)
              sum += static_cast<std::int8_t>(vector[index_bytes + s]) * window[gathered_index(v.geometry, vector, s)];
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
