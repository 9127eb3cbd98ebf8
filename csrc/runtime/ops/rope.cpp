#include "runtime/ops/rope.h"

#include <algorithm>
#include <cstring>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

Rope::Rope(const Program& program, int x, std::int64_t heads, std::int64_t head_dim, std::shared_ptr<const Rotary> rotary)
    : Op("rope", "rope", {x}, program.value("rope", x)), heads_(heads), head_dim_(head_dim), rotary_(std::move(rotary)) {
  const Value& in = result();
  expect(heads >= 1 && head_dim >= 2 && heads <= in.width / head_dim, "rope", "heads that fit " + std::to_string(in.width) + " columns",
         shape_text(heads, head_dim));
  expect(in.rows == Rows::tokens, "rope", "a value with a row per token", "one with a row per sequence");
  expect(rotary_ != nullptr, "rope", "the angles to turn by", "nothing");
  expect(2 * rotary_->pairs() <= head_dim, "rope", "at most " + std::to_string(head_dim / 2) + " pairs of columns in a head",
         std::to_string(rotary_->pairs()));
}

std::size_t Rope::scratch_bytes(const Extent& extent) const {
  return rotary_->has_table(extent.keys) ? 0 : static_cast<std::size_t>(3 * rotary_->pairs()) * sizeof(float);
}

// Rows [begin, end) of the frame, of one sequence of `length` positions, or of some that turn by the same table.
void Rope::rotate(const Work& work, std::int64_t begin, std::int64_t end, std::int64_t length, int thread) const {
  if (!rotary_->has_table(length)) return turn_each(work, begin, end, length, thread);
  const std::int32_t* const positions = work.frame.positions;
  const std::int64_t width = result().width;
  while (begin < end) {
    const Rotary::Rows rows = rotary_->rows(positions[begin], length);
    std::int64_t stop = begin + 1;
    while (stop < end && positions[stop] >= rows.first && positions[stop] < rows.first + Rotary::kBlock) ++stop;
    work.ops.rope({work.y() + begin * width, width, stop - begin, heads_, head_dim_, rotary_->pairs(), positions + begin, rows.first,
                   rows.cos, rows.sin});
    begin = stop;
  }
}

// Where the frequencies depend on the sequence's length there is no table that would serve twice.
void Rope::turn_each(const Work& work, std::int64_t begin, std::int64_t end, std::int64_t length, int thread) const {
  const std::int64_t width = result().width, pairs = rotary_->pairs();
  float* const frequencies = reinterpret_cast<float*>(work.scratch.of(thread));
  float* const cos = frequencies + pairs;
  float* const sin = cos + pairs;
  rotary_->frequencies(length, frequencies);
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int32_t* const position = work.frame.positions + t;
    rotary_->turn(*position, frequencies, cos, sin);
    work.ops.rope({work.y() + t * width, width, 1, heads_, head_dim_, pairs, position, *position, cos, sin});
  }
}

void Rope::run(const Work& work) const {
  const Frame& frame = work.frame;
  const std::int64_t width = result().width;
  const float* const x = work.x();
  float* const y = work.y();
  // Of sequence s, as it is after this call: the position of its last token, and one.
  const auto length = [&](std::int64_t s) { return static_cast<std::int64_t>(frame.positions[frame.begin(s + 1) - 1]) + 1; };
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < frame.sequences; ++s) longest = std::max(longest, length(s));
  const bool uniform = rotary_->is_uniform(longest);
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int thread) {
    const std::int64_t end = begin + count;
    if (y != x) std::memcpy(y + begin * width, x + begin * width, static_cast<std::size_t>(count * width) * sizeof(float));
    if (uniform) return rotate(work, begin, end, longest, thread);
    for (std::int64_t s = 0; s < frame.sequences; ++s) {
      const std::int64_t from = std::max(begin, frame.begin(s)), to = std::min(end, frame.begin(s + 1));
      if (from < to) rotate(work, from, to, length(s), thread);
    }
  });
}

}  // namespace aerogel
