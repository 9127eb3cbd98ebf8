// Walks the vectors as they are stored, one set of rows at a time.
#include "linear/gathered_rows_q8/layout.h"

namespace aerogel {

void run_gathered_rows_q8_scalar(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredRowsView*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t bytes = gathered_rows_vector_bytes(v.rows), block = kGatheredRowsBlock;
  const std::int64_t end = task.unit_end * block < v.n ? task.unit_end * block : v.n;
  for (std::int64_t n = task.unit_begin * block; n < end; ++n) {
    const std::int64_t place = v.place[n], group = place / (16 * v.rows), row = place / 16 % v.rows, lane = place % 16;
    for (std::int64_t t = 0; t < task.m; ++t) {
      std::int32_t sum = 0;
      for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
        const std::int64_t* segment = v.segment + (n / block * v.chunks + chunk) * v.groups + group;
        for (std::int64_t i = segment[0]; i < segment[1]; ++i) {
          const std::int8_t* from = x + t * task.ldx + chunk * v.chunk + v.window[i] * kGatheredRowsStep;
          const std::uint8_t* index = v.vectors + i * bytes + 4 * lane;
          const auto* value = reinterpret_cast<const std::int8_t*>(index + 64 + 64 * row);
          for (int slot = 0; slot < 4; ++slot)
            if (value[slot] != 0) sum += value[slot] * from[index[slot]];
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
