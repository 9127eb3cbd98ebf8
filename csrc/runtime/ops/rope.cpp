#include "runtime/ops/rope.h"

#include <algorithm>
#include <cstring>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

// Of sequence s, as it is after this call: the position of its last token, and one.
std::int64_t length_after(const Frame& frame, std::int64_t s) {
  return static_cast<std::int64_t>(frame.positions[frame.begin(s + 1) - 1]) + 1;
}

}  // namespace

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

// Rows [begin, end) of the frame, of sequences that turn by the table of those of `length` positions: as many at once as have
// their angles in one block.
void Rope::turn(const Work& work, std::int64_t begin, std::int64_t end, std::int64_t length) const {
  const std::int32_t* const positions = work.frame.positions;
  const std::int64_t width = result().width;
  float* const y = work.y();
  RopeTask task{nullptr, width, 0, heads_, head_dim_, rotary_->pairs(), nullptr, 0, nullptr, nullptr};
  for (std::int64_t stop = begin; begin < end; begin = stop) {
    const Rotary::Rows rows = rotary_->rows(positions[begin], length);
    for (++stop; stop < end && static_cast<std::uint32_t>(positions[stop] - rows.first) < Rotary::kBlock;) ++stop;
    task.x = y + begin * width;
    task.rows = stop - begin;
    task.positions = positions + begin;
    task.first = rows.first;
    task.cos = rows.cos;
    task.sin = rows.sin;
    work.ops.rope(task);
  }
}

// Rows [begin, end) of the frame, of one sequence of `length` positions, where the frequencies follow from that length: there is
// no table that would serve twice.
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

// Rows [begin, end) of the frame, where not all of its sequences turn by one table.
void Rope::turn_by_length(const Work& work, std::int64_t begin, std::int64_t end, int thread) const {
  const Frame& frame = work.frame;
  for (std::int64_t s = 0; begin < end; ++s) {
    if (frame.begin(s + 1) <= begin) continue;
    const std::int64_t stop = std::min(end, frame.begin(s + 1)), length = length_after(frame, s);
    if (rotary_->has_table(length))
      turn(work, begin, stop, length);
    else
      turn_each(work, begin, stop, length, thread);
    begin = stop;
  }
}

void Rope::run(const Work& work) const {
  const Frame& frame = work.frame;
  const std::int64_t width = result().width;
  const float* const x = work.x();
  float* const y = work.y();
  bool uniform = true;
  if (rotary_->looks_at_length())
    for (std::int64_t s = 0; s < frame.sequences; ++s) uniform = uniform && rotary_->is_uniform(length_after(frame, s));
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int thread) {
    if (y != x) std::memcpy(y + begin * width, x + begin * width, static_cast<std::size_t>(count * width) * sizeof(float));
    if (uniform)
      turn(work, begin, begin + count, 1);
    else
      turn_by_length(work, begin, begin + count, thread);
  });
}

}  // namespace aerogel
