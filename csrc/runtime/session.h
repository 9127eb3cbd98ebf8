// Session: the mutable state of one caller (arena, KV cache) and the forward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/plan.h"
#include "runtime/scratch.h"
#include "runtime/work.h"

namespace aerogel {

struct StepTiming {
  const Step* step;
  std::int64_t calls = 0;
  double seconds = 0;
};

class Session {
 public:
  // kept: as what keys and values are kept in slots.
  explicit Session(std::shared_ptr<const Plan> plan, Kept kept = Kept::float32);

  const Plan& plan() const { return *plan_; }

  // Rows of the result of `output` for this batch.
  std::int64_t result_rows(const Schedule& schedule, const Batch& batch) const;

  // Everything that the forward pass trusts: offsets rise from 0 to T without empty sequences, ids are inside their tables,
  // lengths within max_positions, slots distinct. Throws ShapeError or DataError.
  void check(const Schedule& schedule, const Batch& batch) const;

  // Runs the whole forward pass; y: [result_rows, schedule.result.width]. The batch must have passed check().
  void run(const Schedule& schedule, const Batch& batch, float* y);

  std::int64_t slot_length(std::int64_t slot) const { return cache_.length(slot); }
  // Forgets what a slot holds behind its first `length` tokens. Throws DataError if it holds fewer.
  void truncate_slot(std::int64_t slot, std::int64_t length);
  // An empty slot gets the first `length` tokens of another one; their memory is that one's as long as both have them. Throws
  // DataError if it is not empty, or if the other one holds fewer.
  void share_slot(std::int64_t from, std::int64_t to, std::int64_t length);
  void free_slot(std::int64_t slot) { freed_ += cache_.free(slot); }

  // Of keys and values.
  std::size_t cache_bytes() const { return cache_.bytes(); }
  // Memory that is kept for the next call, the KV cache included.
  std::size_t bytes() const { return working_bytes() + cache_.bytes(); }
  // Between calls: gives up what calls worked in if that is more than `bytes`. Returns what was given back since the last time, by
  // free_slot() too.
  std::size_t shrink(std::size_t bytes);

  // While on, the time of each step is summed up (and sequences are not run side by side). Steps that run as a chain share its time as
  // they share what its threads take.
  void profile(bool on);
  const std::vector<StepTiming>& timings() const { return timings_; }

 private:
  void run_together(const Schedule& schedule, Frame& frame);
  void run_side_by_side(const Schedule& schedule, std::vector<Frame>& frames);
  void lay_out(const Schedule& schedule, Frame& frame, int arena);
  void run_profiled(const Schedule& schedule, const Frame& frame);
  Extent extent_of(const Batch& batch, std::int64_t longest) const;
  std::size_t scratch_bytes(const Schedule& schedule, const Extent& extent) const;
  std::size_t working_bytes() const;
  std::vector<std::int64_t> side_by_side(const Batch& batch) const;

  std::shared_ptr<const Plan> plan_;
  KvCache cache_;
  ScratchPool scratch_;
  Shares shares_;
  std::vector<AlignedBuffer<std::uint8_t>> arenas_;  // one a frame that is begun; the first one serves those that the team shares
  std::vector<AlignedBuffer<std::uint8_t>> workspaces_;  // one a thread: what a step works in, see Op::workspace_bytes
  std::vector<std::int32_t> positions_;
  std::int64_t reserved_ = 0;  // positions that ops have made room for
  std::size_t freed_ = 0;  // by free_slot(), since the last shrink()
  bool profile_ = false;
  std::vector<StepTiming> timings_;
};

}  // namespace aerogel
