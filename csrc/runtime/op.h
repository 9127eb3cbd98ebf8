// Op: one operation of a program. Each is a class of its own in runtime/ops, which holds its parameters, checks their shapes
// when it is made, states what the planner has to know, and runs. Nothing else in the runtime knows one op from another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"

namespace aerogel {

class PackedLinear;
struct Work;  // one step on some sequences: runtime/work.h

// A vector of floats copied into the program: norm weights, biases.
using Floats = std::shared_ptr<const AlignedBuffer<float>>;

enum class Rows { tokens, sequences, selected };  // selected: all tokens, or the last of each sequence

// The shape of what an op makes.
struct Value {
  std::int64_t width = 0;
  Rows rows = Rows::tokens;
};

// How much one call may have to do, for reserving memory.
struct Extent {
  std::int64_t tokens;   // of the batch
  std::int64_t longest;  // tokens of its longest sequence
  std::int64_t keys;     // most keys of a sequence, those in the KV cache counted
};

class Op {
 public:
  // kind: what profiles call the op, a literal. name: the layer's. inputs: values of the program.
  Op(const char* kind, std::string name, std::vector<int> inputs, Value result)
      : kind_(kind), name_(std::move(name)), inputs_(std::move(inputs)), result_(result) {}
  virtual ~Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;

  const char* kind() const { return kind_; }
  const std::string& name() const { return name_; }
  const std::vector<int>& inputs() const { return inputs_; }
  const Value& result() const { return result_; }

  // ---- for the program
  virtual std::int64_t max_positions() const { return 0; }                        // positions it knows; 0: any number
  virtual std::optional<KvShape> kv_cache() const { return std::nullopt; }        // the keys and values it keeps, if any
  virtual const PackedLinear* weight() const { return nullptr; }                  // the packed weights it multiplies by
  virtual int terms() const { return 1; }                                         // int8 codes that stand for a number of its input

  // ---- for the planner
  virtual bool is_sum() const { return false; }         // of its two inputs, and nothing more
  virtual bool absorbs_sum() const { return false; }    // can take both terms of a sum in place of its one input
  virtual bool writes_codes() const { return false; }   // can write int8 codes of its result, each row with its own scale
  virtual bool by_rows() const { return false; }        // a row of its result needs that row of its inputs only: see run()
  virtual bool in_place() const { return false; }       // its result may take the place of its one input
  // Its first input is read as int8 codes, row by row: of this limit (QuantizeTask), 0 for each row's own. Nothing: as floats.
  virtual std::optional<float> reads_codes() const { return std::nullopt; }

  // ---- for the session
  virtual void check(const Batch&) const {}                              // throws DataError for what run() would trust
  virtual std::size_t scratch_bytes(const Extent&) const { return 0; }   // of each thread, beyond one row of the result
  virtual std::size_t workspace_bytes() const { return 0; }              // of all threads of a step together
  virtual void reserve(std::int64_t /*positions*/) const {}              // what all sessions share; throws std::bad_alloc
  // Allocates nothing and throws nothing. An op that goes by rows makes those of the work's window only (Work::over_rows sees to it).
  virtual void run(const Work& work) const = 0;

 private:
  const char* kind_;
  std::string name_;
  std::vector<int> inputs_;
  Value result_;
};

}  // namespace aerogel
