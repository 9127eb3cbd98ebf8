// What an op runs on: one step of the plan, on some sequences of the batch, by some threads.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/linear_run.h"
#include "runtime/plan.h"

namespace aerogel {

// The sequences that one pass over the schedule works on: the whole batch, or a run of its sequences.
struct Frame {
  const Batch& batch;
  std::int64_t first_sequence, sequences;
  std::int64_t first_token, tokens;
  const std::int32_t* positions;           // [tokens]
  const std::vector<KvSequence*>& caches;  // one per sequence of the batch, or empty
  std::vector<std::uint8_t*> slots;
  std::uint8_t* result = nullptr;  // slot 0: the frame's rows of the result
  int arena = -1;                  // where the other slots are; -1: not begun
  std::size_t steps_done = 0;

  std::int64_t rows(Rows kind) const {
    if (kind == Rows::tokens || (kind == Rows::selected && !batch.last_only)) return tokens;
    return sequences;
  }
  // Tokens of sequence s of this frame: [begin(s), begin(s + 1)), from the frame's first token.
  std::int64_t begin(std::int64_t s) const { return batch.offsets[first_sequence + s] - first_token; }
};

struct Work {
  const Step& step;
  const Frame& frame;
  const Crew& crew;
  const Ops& ops;           // kernels
  ScratchPool& scratch;     // of each thread
  std::uint8_t* workspace;  // of the step: workspace_bytes() of its op
  // Of an op that goes by rows: the window of rows to be made. Below 0: all.
  std::int64_t first = 0, count = -1;

  std::int64_t rows() const { return frame.rows(step.op->result().rows); }  // of the result
  std::int64_t window() const { return count < 0 ? rows() : count; }
  // Inputs and results, of Step's fields; null where the step has none. An input that is read as codes has as many rows as
  // the result.
  const float* x(std::size_t input = 0) const { return floats(step.x[input]); }
  const std::int8_t* x_codes() const { return codes(step.x_codes); }
  const float* x_scales(std::int64_t width) const { return scales(step.x_codes, width); }
  float* y() const { return floats(step.y); }
  std::int8_t* y_codes() const { return codes(step.y_codes); }
  float* y_scales() const { return scales(step.y_codes, step.op->result().width); }
  float* sum() const { return floats(step.sum); }

  // Has a kernel write its rows to y from `row` on, as floats, codes or both. Where nobody reads floats, one row of the
  // thread's scratch stands for them all.
  template <class Task>
  void write(Task& task, std::int64_t row, int thread) const {
    const std::int64_t width = step.op->result().width;
    task.y = step.y >= 0 ? y() + row * width : reinterpret_cast<float*>(scratch.of(thread));
    task.ldy = step.y >= 0 ? width : 0;
    task.ldq = codes_ld(width);
    task.q = step.y_codes < 0 ? nullptr : y_codes() + row * task.ldq;
    task.q_scale = step.y_codes < 0 ? nullptr : y_scales() + row;
  }

  // f(first row, rows, thread) over all rows, or those of the window. width: elements that a row costs.
  template <class F>
  void over_rows(std::int64_t rows, std::int64_t width, const F& f) const {
    if (count >= 0) return f(first, count, crew.thread);
    crew.over_rows(rows, width, f);
  }

 private:
  float* floats(int slot) const { return slot < 0 ? nullptr : reinterpret_cast<float*>(frame.slots[slot]); }
  std::int8_t* codes(int slot) const { return slot < 0 ? nullptr : reinterpret_cast<std::int8_t*>(frame.slots[slot]); }
  float* scales(int slot, std::int64_t width) const {
    return slot < 0 ? nullptr : reinterpret_cast<float*>(frame.slots[slot] + rows() * codes_ld(width));
  }
};

}  // namespace aerogel
