#include "runtime/session.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/stop.h"
#include "runtime/chain_run.h"

namespace aerogel {
namespace {

// Tokens that a thread works on when sequences are run side by side: enough to reuse each weight that is loaded from
// cache many times, few enough that the activations stay in the cache. MiniLM with 80 % zeros, 16x128, one thread of Zen 3: 140 ms, with
// 256 tokens 143, with all at once 162.
constexpr std::int64_t kFrameTokens = 128;
// Beyond so many a step of one thread takes long: then all share it, and hand over between its parts.
constexpr std::int64_t kMostFrameTokens = 1024;

// Positions are reserved so many at a time.
constexpr std::int64_t kReservedPositions = 512;

}  // namespace

Session::Session(std::shared_ptr<const Plan> plan, Kept kept)
    : plan_(std::move(plan)),
      cache_(plan_->program().kv_caches(), kept),
      scratch_(plan_->threads()),
      shares_(plan_->threads()),
      arenas_(plan_->threads()),
      workspaces_(plan_->threads()) {}

std::int64_t Session::result_rows(const Schedule& schedule, const Batch& batch) const {
  switch (schedule.result.rows) {
    case Rows::tokens: return batch.token_count;
    case Rows::sequences: return batch.sequences;
    case Rows::selected: return batch.last_only ? batch.sequences : batch.token_count;
  }
  return 0;
}

void Session::check(const Schedule& schedule, const Batch& batch) const {
  const auto text = [](std::int64_t number) { return std::to_string(number); };
  const std::int64_t* offsets = batch.offsets;
  if (batch.sequences < 1) throw ShapeError("offsets: expected at least one sequence, got none");
  if (offsets[0] != 0 || offsets[batch.sequences] != batch.token_count)
    throw ShapeError("offsets: expected to run from 0 to the " + text(batch.token_count) + " tokens, got " + text(offsets[0]) +
                     " to " + text(offsets[batch.sequences]));
  for (std::int64_t s = 0; s < batch.sequences; ++s)
    if (offsets[s + 1] <= offsets[s])
      throw ShapeError("offsets: sequence " + text(s) + " is empty or runs backwards: " + text(offsets[s]) + " to " +
                       text(offsets[s + 1]));
  if (batch.slots != nullptr) {
    if (!schedule.uses_cache) throw Error("slots: this model has no causal attention, so it keeps no KV cache");
    std::set<std::int64_t> seen;
    for (std::int64_t s = 0; s < batch.sequences; ++s)
      if (!seen.insert(batch.slots[s]).second) throw DataError("slots: " + text(batch.slots[s]) + " is given twice");
  }
  const std::int64_t limit = plan_->program().max_positions();
  if (limit != 0)
    for (std::int64_t s = 0; s < batch.sequences; ++s) {
      const std::int64_t held = batch.slots == nullptr ? 0 : cache_.length(batch.slots[s]);
      const std::int64_t length = held + offsets[s + 1] - offsets[s];
      if (length > limit)
        throw ShapeError("sequence " + text(s) + ": expected at most " + text(limit) + " positions, got " + text(length));
    }
  for (const Step& step : schedule.steps) step.op->check(batch);
}

// Sequences do not depend on each other. When there are enough of them, each thread takes some through the whole model
// alone: no waiting for the others between ops, and what it works on stays in its cache, which serves a single thread too. Returns the
// frames' first sequences and the end, or nothing if the whole team had better share each op.
std::vector<std::int64_t> Session::side_by_side(const Batch& batch) const {
  const std::int64_t threads = plan_->threads();
  if (profile_ || batch.sequences < 2 || batch.token_count < 48 * threads) return {};
  const std::int64_t target =
      std::clamp<std::int64_t>((batch.token_count + threads - 1) / threads, 1, kFrameTokens);
  std::vector<std::int64_t> cuts{0};
  for (std::int64_t s = 1; s < batch.sequences; ++s) {
    const std::int64_t filled = batch.offsets[s] - batch.offsets[cuts.back()];
    const std::int64_t with_next = batch.offsets[s + 1] - batch.offsets[cuts.back()];
    // Cut where the frame is nearer to the target.
    if (with_next > target && with_next - target >= target - filled) cuts.push_back(s);
  }
  cuts.push_back(batch.sequences);
  if (cuts.size() == 2) return {};
  // Threads take frames in turn; what matters is how much longer the last one to finish works than the average.
  std::vector<std::int64_t> busy(static_cast<std::size_t>(threads), 0);
  for (std::size_t f = 0; f + 1 < cuts.size(); ++f) {
    const std::int64_t tokens = batch.offsets[cuts[f + 1]] - batch.offsets[cuts[f]];
    if (tokens > kMostFrameTokens) return {};
    *std::min_element(busy.begin(), busy.end()) += tokens;
  }
  const std::int64_t longest = *std::max_element(busy.begin(), busy.end());
  if (longest * threads * 10 > batch.token_count * 12) return {};
  return cuts;
}

Extent Session::extent_of(const Batch& batch, std::int64_t longest) const {
  Extent extent{batch.token_count, longest, longest};
  if (batch.slots != nullptr)
    for (std::int64_t s = 0; s < batch.sequences; ++s)
      extent.keys = std::max(extent.keys, cache_.length(batch.slots[s]) + batch.offsets[s + 1] - batch.offsets[s]);
  return extent;
}

std::size_t Session::scratch_bytes(const Schedule& schedule, const Extent& extent) const {
  std::size_t bytes = 0;
  for (const Step& step : schedule.steps) {
    const auto row = static_cast<std::size_t>(round_up<std::int64_t>(step.op->result().width, 64)) * sizeof(float);
    bytes = std::max({bytes, row, step.op->scratch_bytes(extent)});
  }
  return bytes;
}

void Session::run(const Schedule& schedule, const Batch& batch, float* y) {
  // Room first: whatever can fail for lack of memory does so before anything has changed.
  std::vector<KvSequence*> caches;
  positions_.resize(static_cast<std::size_t>(batch.token_count));
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t length = batch.offsets[s + 1] - batch.offsets[s];
    longest = std::max(longest, length);
    std::int64_t position = 0;
    if (batch.slots != nullptr) {
      caches.push_back(&cache_.slot(batch.slots[s]));
      position = caches.back()->length();
      caches.back()->reserve(position + length);
    }
    for (std::int64_t t = batch.offsets[s]; t < batch.offsets[s + 1]; ++t) positions_[t] = static_cast<std::int32_t>(position++);
  }
  const Extent extent = extent_of(batch, longest);
  scratch_.reserve(scratch_bytes(schedule, extent));
  if (extent.keys > reserved_) {
    const std::int64_t positions = round_up(extent.keys, kReservedPositions);
    for (const auto& op : plan_->program().ops()) op->reserve(positions);
    reserved_ = positions;
  }

  std::vector<std::int64_t> cuts = side_by_side(batch);
  const bool together = cuts.empty();
  if (together) cuts = {0, batch.sequences};
  const std::int64_t frames = static_cast<std::int64_t>(cuts.size()) - 1;
  std::int64_t frame_tokens = 0;
  for (std::int64_t f = 0; f < frames; ++f)
    frame_tokens = std::max(frame_tokens, batch.offsets[cuts[f + 1]] - batch.offsets[cuts[f]]);
  std::size_t arena_bytes = 0;
  for (std::size_t slot = 1; slot < schedule.slot_row_bytes.size(); ++slot)
    arena_bytes += static_cast<std::size_t>(round_up<std::int64_t>(schedule.slot_row_bytes[slot] * frame_tokens, kCacheLine));
  std::size_t workspace_bytes = 0;
  for (const Step& step : schedule.steps) workspace_bytes = std::max(workspace_bytes, step.op->workspace_bytes());
  const std::size_t used_arenas = together ? 1 : arenas_.size();
  for (std::size_t thread = 0; thread < used_arenas; ++thread)
    if (workspaces_[thread].size() < workspace_bytes) workspaces_[thread] = AlignedBuffer<std::uint8_t>(workspace_bytes);
  for (std::size_t thread = 0; thread < used_arenas; ++thread)
    if (arenas_[thread].size() < arena_bytes) arenas_[thread] = AlignedBuffer<std::uint8_t>(arena_bytes);

  // Frames are made here, so that nothing is allocated while the team runs.
  std::vector<Frame> prepared;
  prepared.reserve(static_cast<std::size_t>(frames));
  const bool rows_are_tokens =
      schedule.result.rows == Rows::tokens || (schedule.result.rows == Rows::selected && !batch.last_only);
  for (std::int64_t f = 0; f < frames; ++f) {
    const std::int64_t first_token = batch.offsets[cuts[f]];
    prepared.push_back({batch, cuts[f], cuts[f + 1] - cuts[f], first_token, batch.offsets[cuts[f + 1]] - first_token,
                        positions_.data() + first_token, caches, std::vector<std::uint8_t*>(schedule.slot_row_bytes.size())});
    prepared.back().result =
        reinterpret_cast<std::uint8_t*>(y + (rows_are_tokens ? first_token : cuts[f]) * schedule.result.width);
  }
  {
    const auto turn = plan_->team().lock();
    if (together)
      run_together(schedule, prepared[0]);
    else
      run_side_by_side(schedule, prepared);
  }
  stop_if_requested();  // before the cache takes in what may be half done
  for (std::size_t s = 0; s < caches.size(); ++s) caches[s]->advance(batch.offsets[s + 1] - batch.offsets[s]);
}

void Session::lay_out(const Schedule& schedule, Frame& frame, int arena) {
  frame.arena = arena;
  frame.slots[0] = frame.result;
  std::uint8_t* next = arenas_[arena].data();
  for (std::size_t slot = 1; slot < frame.slots.size(); ++slot) {
    frame.slots[slot] = next;
    next += round_up<std::int64_t>(schedule.slot_row_bytes[slot] * frame.tokens, kCacheLine);
  }
}

void Session::run_together(const Schedule& schedule, Frame& frame) {
  lay_out(schedule, frame, 0);
  if (profile_) return run_profiled(schedule, frame);
  const Crew crew{&plan_->team(), 0, &shares_};
  for (const Chain& chain : schedule.chains) {
    const TokenBlocks blocks = blocks_of(chain, frame.tokens, crew.size());
    if (blocks.count != 0) {
      run_chain(schedule.steps, chain, blocks, frame, crew, plan_->ops(), scratch_);
      continue;
    }
    for (int i = chain.begin; i < chain.end; ++i)
      schedule.steps[i].op->run({schedule.steps[i], frame, crew, plan_->ops(), scratch_, workspaces_[0].data()});
  }
}

// A thread takes a frame through all steps. Where it is another caller's turn in the middle, frames are left between two steps, each
// with an arena of its own, and those are the first that go on. So arenas suffice; a thread that finds none leaves its frame unbegun.
void Session::run_side_by_side(const Schedule& schedule, std::vector<Frame>& frames) {
  Team& team = plan_->team();
  std::vector<std::atomic<bool>> used(arenas_.size());
  const auto go_on = [&](Frame& frame, int thread) {
    if (frame.arena < 0) {
      std::size_t arena = 0;
      while (arena < used.size() && used[arena].exchange(true, std::memory_order_acquire)) ++arena;
      if (arena == used.size()) return;
      lay_out(schedule, frame, static_cast<int>(arena));
    }
    const Crew crew{nullptr, thread};
    for (; frame.steps_done < schedule.steps.size(); ++frame.steps_done) {
      if (stop_requested() || (frame.steps_done != 0 && team.due())) return;
      const Step& step = schedule.steps[frame.steps_done];
      step.op->run({step, frame, crew, plan_->ops(), scratch_, workspaces_[thread].data()});
    }
    used[frame.arena].store(false, std::memory_order_release);
  };
  std::vector<Frame*> left;
  for (Frame& frame : frames) left.push_back(&frame);
  const auto is_done = [&](const Frame* frame) { return frame->steps_done == schedule.steps.size(); };
  while (!left.empty()) {
    team.run_some(static_cast<std::int64_t>(left.size()), [&](std::int64_t part, int thread) noexcept { go_on(*left[part], thread); });
    left.erase(std::remove_if(left.begin(), left.end(), is_done), left.end());
    std::stable_partition(left.begin(), left.end(), [](const Frame* frame) { return frame->arena >= 0; });
  }
}

void Session::truncate_slot(std::int64_t slot, std::int64_t length) {
  const std::int64_t held = cache_.length(slot);
  if (length < 0 || length > held)
    throw DataError("slot " + std::to_string(slot) + ": expected a length up to " + std::to_string(held) + ", got " + std::to_string(length));
  if (held != 0) cache_.slot(slot).truncate(length);
}

void Session::share_slot(std::int64_t from, std::int64_t to, std::int64_t length) {
  const std::int64_t held = cache_.length(from);
  if (length < 0 || length > held)
    throw DataError("slot " + std::to_string(from) + ": expected a length up to " + std::to_string(held) + ", got " + std::to_string(length));
  if (cache_.length(to) != 0)
    throw DataError("slot " + std::to_string(to) + ": expected an empty one, got one with " + std::to_string(cache_.length(to)) + " tokens");
  if (length != 0) cache_.slot(to).share(cache_.slot(from), length);
}

std::size_t Session::working_bytes() const {
  std::size_t sum = scratch_.bytes() + positions_.capacity() * sizeof(positions_[0]);
  for (const auto* buffers : {&arenas_, &workspaces_})
    for (const AlignedBuffer<std::uint8_t>& buffer : *buffers) sum += buffer.bytes();
  return sum;
}

std::size_t Session::shrink(std::size_t bytes) {
  std::size_t freed = std::exchange(freed_, 0);
  const std::size_t held = working_bytes();
  if (held <= bytes) return freed;
  scratch_.clear();
  for (auto* buffers : {&arenas_, &workspaces_})
    for (AlignedBuffer<std::uint8_t>& buffer : *buffers) AlignedBuffer<std::uint8_t>().swap(buffer);
  std::vector<std::int32_t>().swap(positions_);
  return freed + held;
}

}  // namespace aerogel
