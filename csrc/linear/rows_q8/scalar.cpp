// Walks the quads as they are stored, one row at a time.
#include <cstring>

#include "linear/rows_q8/layout.h"

namespace aerogel {

void run_rows_q8_scalar(const LinearTask& task) {
  const auto& v = *static_cast<const RowsView*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t bytes = rows_quad_bytes(v.rows);
  const std::int64_t end = task.unit_end * kRowsUnit < v.n ? task.unit_end * kRowsUnit : v.n;
  for (std::int64_t n = task.unit_begin * kRowsUnit; n < end; ++n)
    for (std::int64_t t = 0; t < task.m; ++t) {
      std::int32_t sum = 0;
      for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
        const std::int8_t* from = x + t * task.ldx + chunk * v.chunk;
        const std::int64_t list = chunk * v.sets + n / v.rows;
        for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i) {
          const std::uint8_t* quad = v.quads + i * bytes;
          const auto* weight = reinterpret_cast<const std::int8_t*>(quad + 8 + 4 * (n % v.rows));
          std::uint16_t column[4];
          std::memcpy(column, quad, 8);
          for (int slot = 0; slot < 4; ++slot) sum += weight[slot] * from[column[slot] / 8];
        }
      }
      const float factor = task.x_scale[t] * v.scale[n];
      float y = static_cast<float>(sum) * factor;
      if (task.bias != nullptr) y = y + task.bias[n];
      task.y[t * task.ldy + n] = y;
    }
}

}  // namespace aerogel
