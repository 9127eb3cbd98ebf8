// Plan: a program made ready to run. Immutable, shared between threads.
//
// For each output of the program there is a schedule: only the ops it needs, fused where that saves a pass over memory
//   - a sum that feeds a norm is added inside the norm,
//   - norms and activations write the int8 codes of their result when a quantized linear reads it,
//   - other inputs of quantized linears get a quantize step, as do those with a fixed limit: one for each limit,
//   - RoPE rotates in place,
// and every intermediate result is given a slot of the arena, reused as soon as its last reader is done.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/team.h"
#include "isa/isa.h"
#include "runtime/program.h"

namespace aerogel {

enum class StepKind { embed, layer_norm, rms_norm, linear, add, activation, quantize, rope, attention, select_last, pool, l2_normalize };

const char* step_name(StepKind kind);

// What a session executes. Slots are -1 where unused.
struct Step {
  StepKind kind;
  const Op* op;          // name and parameters; of quantize: the op whose result is quantized
  std::int64_t width;    // columns of the result
  Rows rows;             // rows of the result
  int x = -1;            // slot of the input (float)
  int xq = -1;           // slot of the input's codes, for a quantized linear
  int residual = -1;     // slot of the second term: add, or a sum fused into a norm
  int sum = -1;          // slot that receives the fused sum, where others read it too
  int y = -1;            // slot of the float result
  int yq = -1;           // slot of the result's codes
  float limit = 0;       // quantize: fixed; 0: each row's own
};

// Codes and scales of a value share one slot: [rows, codes_ld] int8, then [rows] float.
constexpr std::int64_t codes_ld(std::int64_t width) { return round_up<std::int64_t>(width, 64); }

struct Schedule {
  std::string output;
  int result = -1;                          // slot of the output
  std::int64_t result_width = 0;
  Rows result_rows = Rows::tokens;
  std::vector<Step> steps;
  std::vector<std::int64_t> slot_row_bytes; // size of each slot for one row; all but the result live in the arena
  bool uses_attention_cache = false;        // has a causal attention, so a KV cache can be filled
};

class Plan {
 public:
  // threads 0: default_threads(). `isa` is that of the ops; linears bring their own. Throws Error if the program has no output.
  Plan(Program program, int threads, Isa isa = active_isa());

  const Program& program() const { return program_; }
  const Schedule& schedule(const std::string& output) const;  // throws Error naming the known ones
  const std::vector<Schedule>& schedules() const { return schedules_; }
  int threads() const { return team_->size(); }
  Team& team() const { return *team_; }
  const Ops& ops() const { return ops_; }
  std::size_t weight_bytes() const;                           // packed weights, each counted once

 private:
  Program program_;
  const Ops& ops_;
  std::vector<Schedule> schedules_;
  std::unique_ptr<Team> team_;
};

}  // namespace aerogel
