#include "runtime/ops/disentangled_attention.h"

#include <algorithm>
#include <utility>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

// Attention below this many multiplications is not worth waking anybody for.
constexpr std::int64_t kSerial = 300'000;
// Where heads alone do not keep all threads busy, sequences are cut into so many queries: each cut multiplies positions again.
constexpr std::int64_t kQueryBlock = 128;
constexpr std::int64_t kPartsPerThread = 4;

}  // namespace

DisentangledAttention::DisentangledAttention(const Program& program, const std::string& name, int x, std::int64_t heads,
                                             std::int64_t head_dim, float scale, std::vector<std::int32_t> rows, Floats position_keys,
                                             Floats position_queries)
    : Op("disentangled_attention", name, {x}, {heads * head_dim, program.value(name, x).rows}),
      heads_(heads),
      head_dim_(head_dim),
      scale_(scale),
      rows_(std::move(rows)),
      position_keys_(std::move(position_keys)),
      position_queries_(std::move(position_queries)) {
  const Value& in = program.value(name, x);
  expect(heads >= 1 && head_dim >= 1 && head_dim <= 256, name, "heads of a size of 1 to 256", shape_text(heads, head_dim));
  expect(in.width == 3 * heads * head_dim, name, std::to_string(3 * heads * head_dim) + " columns of q, k and v", std::to_string(in.width));
  expect(in.rows == Rows::tokens, name, "a value with a row per token", "one with a row per sequence");
  expect(rows_.size() % 2 == 1, name + " rows", "an odd number of distances", std::to_string(rows_.size()));
  expect(std::is_sorted(rows_.begin(), rows_.end()) && rows_.front() >= 0, name + " rows", "rows that do not decrease", "others");
  for (const Floats* positions : {&position_keys_, &position_queries_}) {
    const std::int64_t size = *positions == nullptr ? 0 : static_cast<std::int64_t>((*positions)->size()), width = heads * head_dim;
    expect(*positions == nullptr || (size % width == 0 && size / width > rows_.back()), name + " positions",
           "more than " + std::to_string(rows_.back()) + " rows of " + std::to_string(width), std::to_string(size) + " elements");
  }
}

std::size_t DisentangledAttention::scratch_bytes(const Extent& extent) const {
  return disentangled_scratch_bytes(extent.longest, extent.longest, head_dim_, rows_.back() - rows_.front() + 1);
}

void DisentangledAttention::run(const Work& work) const {
  const Frame& frame = work.frame;
  const std::int64_t d = head_dim_, width = heads_ * d, ld = 3 * width;
  const float* const qkv = work.x();
  float* const y = work.y();
  std::int64_t multiplications = 0, blocks = 0;
  for (std::int64_t s = 0; s < frame.sequences; ++s) {
    const std::int64_t length = frame.begin(s + 1) - frame.begin(s);
    multiplications += length * length * width * 4;
    blocks += (length + kQueryBlock - 1) / kQueryBlock;
  }
  const bool serial = multiplications < kSerial;
  const bool whole = serial || frame.sequences * heads_ >= kPartsPerThread * work.crew.size();
  if (whole) blocks = frame.sequences;

  // A part is a head of a sequence, or of a block of its queries.
  const auto run_part = [&](std::int64_t part, int thread) {
    std::int64_t block = part / heads_, s = 0;
    if (whole) std::swap(block, s);
    for (; !whole; ++s) {
      const std::int64_t here = (frame.begin(s + 1) - frame.begin(s) + kQueryBlock - 1) / kQueryBlock;
      if (block < here) break;
      block -= here;
    }
    const std::int64_t column = part % heads_ * d, begin = frame.begin(s), length = frame.begin(s + 1) - begin;
    const std::int64_t first = block * kQueryBlock;
    DisentangledTask task{};
    task.q = qkv + (begin + first) * ld + column;
    task.k = qkv + begin * ld + width + column;
    task.v = task.k + width;
    task.ld = ld;
    task.queries = whole ? length : std::min(kQueryBlock, length - first);
    task.keys = length;
    task.d = d;
    task.position = first;
    task.scale = scale_;
    task.position_keys = position_keys_ == nullptr ? nullptr : position_keys_->data() + column;
    task.position_queries = position_queries_ == nullptr ? nullptr : position_queries_->data() + column;
    task.ldp = width;
    task.rows = rows_.data();
    task.reach = static_cast<std::int64_t>(rows_.size() / 2);
    task.y = y + (begin + first) * width + column;
    task.ldy = width;
    task.scratch = work.scratch.of(thread);
    work.ops.disentangled_attention(task);
  };
  const std::int64_t parts = blocks * heads_;
  if (serial) {
    for (std::int64_t part = 0; part < parts; ++part) run_part(part, work.crew.thread);
    return;
  }
  work.crew.run(parts, [&](std::int64_t part, int thread) noexcept { run_part(part, thread); });
}

}  // namespace aerogel
