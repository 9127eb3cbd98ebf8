// Plan: a program made ready to run. Immutable, shared between threads.
//
// For each output of the program there is a schedule: only the ops it needs, fused where that saves a pass over memory
//   - a sum whose first reader can absorb it (a norm) is added inside that op,
//   - ops that can (norms, activations) write the int8 codes of their result when one that reads codes (a linear) reads it,
//   - other inputs of those get a quantize step, as do those with a fixed limit: one for each limit,
//   - ops that can (RoPE) work in place,
// and every intermediate result is given a slot of the arena, reused as soon as its last reader is done.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/team.h"
#include "isa/isa.h"
#include "kernels/table.h"
#include "runtime/chains.h"
#include "runtime/program.h"

namespace aerogel {

// What attention multiplies: floats, or codes of 16 or 8 bits (AttentionTask in ops/ops.h), which are off by about 1e-3 or 1.5e-2 of what
// is around. automatic: codes where a model's linears are quantized anyway and it writes no text; so what a KV cache holds is read as it
// was written, however a text was cut. Of 8 bits where these are enough for the inputs of all linears too.
enum class AttentionProducts { automatic, float32, int16, int8 };

// What a session executes: an op, and the slots it reads and writes. -1: none.
struct Step {
  const Op* op;
  std::vector<int> x;      // of each input that is read as floats; of both terms of the sum that the op has absorbed
  int x_codes = -1;        // the first input as codes, where the op reads those
  int sum = -1;            // receives the absorbed sum, where others read it too
  int y = -1;              // the result as floats
  int y_codes = -1;        // the result's codes
};

// Codes and scales of a value share one slot: [rows, codes_ld] int8, then [rows] float.
constexpr std::int64_t codes_ld(std::int64_t width) { return round_up<std::int64_t>(width, 64); }

struct Schedule {
  std::string output;
  Value result;
  std::vector<Step> steps;
  std::vector<Chain> chains;                         // of all steps
  std::vector<std::int64_t> slot_row_bytes;          // of each slot, for one row; slot 0 is the result, the others are in the arena
  bool uses_cache = false;                           // has an op that keeps keys and values, so a KV cache can be filled
  std::vector<std::unique_ptr<const Op>> quantizes;  // ops that the plan has put between those of the program
};

class Plan {
 public:
  // threads 0: default_threads(). `isa` is that of the ops; linears bring their own. Throws Error if the program has no output.
  Plan(Program program, int threads, Isa isa = active_isa(), AttentionProducts attention = AttentionProducts::float32);

  const Program& program() const { return program_; }
  const Schedule& schedule(const std::string& output) const;  // throws Error naming the known ones
  const std::vector<Schedule>& schedules() const { return schedules_; }
  int threads() const { return team_->size(); }
  Team& team() const { return *team_; }
  const Ops& ops() const { return ops_; }
  AttentionProducts attention() const { return attention_; }  // not automatic
  std::size_t weight_bytes() const;                           // packed weights, each counted once

 private:
  Program program_;
  AttentionProducts attention_;
  Ops ops_;
  std::vector<Schedule> schedules_;
  std::unique_ptr<Team> team_;
};

}  // namespace aerogel
