#include "runtime/ops/qk_norm.h"

#include <cstring>
#include <utility>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

QkNorm::QkNorm(const Program& program, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads,
               std::int64_t head_dim, Floats query_gamma, Floats key_gamma, float eps)
    : Op("qk_norm", name, {x}, program.value(name, x)), eps_(eps) {
  expect(heads >= 1 && kv_heads >= 1 && head_dim >= 1, name, "heads", shape_text(heads, head_dim));
  expect(result().width == (heads + 2 * kv_heads) * head_dim, name,
         std::to_string((heads + 2 * kv_heads) * head_dim) + " columns of q, k and v", std::to_string(result().width));
  const auto part = [&](std::int64_t begin, std::int64_t count, Floats gamma, const char* label) -> Part {
    const std::int64_t size = gamma == nullptr ? 0 : static_cast<std::int64_t>(gamma->size());
    expect(size == head_dim || size == count * head_dim, name + label,
           "[" + std::to_string(head_dim) + "] or [" + std::to_string(count * head_dim) + "]", "[" + std::to_string(size) + "]");
    return {begin, count * head_dim / size, size, std::move(gamma)};
  };
  queries_ = part(0, heads, std::move(query_gamma), " query_gamma");
  keys_ = part(heads * head_dim, kv_heads, std::move(key_gamma), " key_gamma");
}

void QkNorm::run(const Work& work) const {
  const std::int64_t ld = result().width;
  const float* const x = work.x();
  float* const y = work.y();
  work.over_rows(work.rows(), ld, [&](std::int64_t begin, std::int64_t rows, int) {
    if (y != x) std::memcpy(y + begin * ld, x + begin * ld, static_cast<std::size_t>(rows * ld) * sizeof(float));
    for (const Part* part : {&queries_, &keys_})
      for (std::int64_t slice = 0; slice < part->count; ++slice) {
        NormTask task{};
        task.x = task.y = y + begin * ld + part->begin + slice * part->width;
        task.ldx = task.ldy = ld;
        task.rows = rows;
        task.width = part->width;
        task.gamma = part->gamma->data();
        task.eps = eps_;
        work.ops.rms_norm(task);
      }
  });
}

}  // namespace aerogel
