// Walks the lists as they are stored, one set of rows and one token at a time.
#include "linear/quads_q8/layout.h"

namespace aerogel {
namespace {

std::int32_t multiply(const QuadsView& v, std::int64_t list, const std::int8_t* x) {
  std::int32_t sum = 0;
  for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i)
    for (int slot = 0; slot < 4; ++slot) sum += v.quads[i].weight[slot] * x[v.quads[i].column[slot] / 8];
  return sum;
}

}  // namespace

void run_quads_q8_scalar(const LinearTask& task) {
  const auto& v = *static_cast<const QuadsView*>(task.weight);
  const auto* x = static_cast<const std::int8_t*>(task.x);
  const std::int64_t begin = task.unit_begin * kQuadsRows, end = task.unit_end * kQuadsRows < v.n ? task.unit_end * kQuadsRows : v.n;
  for (std::int64_t set = begin / kQuadsSet * kQuadsSet; set < end; set += kQuadsSet)
    for (std::int64_t t = 0; t < task.m; ++t) {
      const std::int64_t rows = v.n - set < kQuadsSet ? v.n - set : kQuadsSet;
      std::int32_t sums[kQuadsSet] = {};
      for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk)
        for (std::int64_t place = 0; place < rows; ++place) {
          const std::int64_t list = chunk * v.n + set + place;
          sums[v.row[list]] += multiply(v, list, x + t * task.ldx + chunk * v.chunk);
        }
      for (std::int64_t n = begin > set ? begin : set; n < end && n < set + rows; ++n) {
        float y = static_cast<float>(sums[n - set]) * (task.x_scale[t] * v.scale[n]);
        if (task.bias != nullptr) y = y + task.bias[n];
        task.y[t * task.ldy + n] = y;
      }
    }
}

}  // namespace aerogel
