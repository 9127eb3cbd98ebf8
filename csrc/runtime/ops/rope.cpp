#include "runtime/ops/rope.h"

#include <cstring>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

Rope::Rope(const Program& program, int x, std::int64_t heads, std::int64_t head_dim, Floats cos, Floats sin)
    : Op("rope", "rope", {x}, program.value("rope", x)),
      heads_(heads),
      head_dim_(head_dim),
      cos_(std::move(cos)),
      sin_(std::move(sin)) {
  const Value& in = result();
  expect(heads >= 1 && head_dim >= 2 && head_dim % 2 == 0 && heads <= in.width / head_dim, "rope",
         "an even head size and heads that fit " + std::to_string(in.width) + " columns", shape_text(heads, head_dim));
  expect(in.rows == Rows::tokens, "rope", "a value with a row per token", "one with a row per sequence");
  const std::int64_t half = head_dim / 2;
  expect(cos_ != nullptr && sin_ != nullptr && cos_->size() == sin_->size() && cos_->size() != 0 && cos_->size() % half == 0, "rope",
         "cos and sin of shape [positions, " + std::to_string(half) + "]", "other sizes");
  // Every layer of a model turns by the same angles: one copy of the tables serves them all.
  const auto equal = [](const Floats& a, const Floats& b) {
    return a->size() == b->size() && std::memcmp(a->data(), b->data(), a->bytes()) == 0;
  };
  for (const auto& op : program.ops()) {
    const auto* earlier = dynamic_cast<const Rope*>(op.get());
    if (earlier != nullptr && equal(earlier->cos_, cos_) && equal(earlier->sin_, sin_)) {
      cos_ = earlier->cos_;
      sin_ = earlier->sin_;
      break;
    }
  }
}

void Rope::run(const Work& work) const {
  const std::int64_t width = result().width;
  const float* const x = work.x();
  float* const y = work.y();
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int) {
    if (y != x) std::memcpy(y + begin * width, x + begin * width, static_cast<std::size_t>(count * width) * sizeof(float));
    work.ops.rope({y + begin * width, width, count, heads_, head_dim_, work.frame.positions + begin, cos_->data(), sin_->data()});
  });
}

}  // namespace aerogel
