// Program: what a model computes, as a straight list of ops on values, built by Python, checked as it is built.
//
// A value is a matrix with one row per token ([T, width]) or, after pooling, one per sequence ([S, width]). T and S are
// known only when a session runs. Each op makes one new value; nothing is overwritten.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/packed_linear.h"

namespace aerogel {

// An embedding table: float, bf16, or int8 with one scale per row. Borrows its arrays; `owner` keeps them alive.
struct Table {
  std::string name;
  std::int64_t entries = 0, width = 0;
  const float* f32 = nullptr;
  const std::uint16_t* bf16 = nullptr;
  const std::int8_t* q8 = nullptr;
  const float* scale = nullptr;
  std::shared_ptr<const void> owner;
};

// A vector or matrix of floats copied into the program: norm weights, biases, cos and sin of RoPE.
using Floats = std::shared_ptr<const AlignedBuffer<float>>;

enum class OpKind { embed, layer_norm, rms_norm, linear, add, activation, rope, attention, select_last, pool, l2_normalize };
enum class Activation { gelu, gelu_tanh, relu, tanh, silu, silu_gate };
enum class Pooling { mean, max, cls, last };

struct Op {
  Op(OpKind op_kind, std::string op_name, int first = -1, int second = -1)
      : kind(op_kind), name(std::move(op_name)), x(first), y(second) {}

  OpKind kind;
  std::string name;
  int x, y;  // input values or -1; y: the second one of add
  // Only the fields of the op's kind are set.
  std::shared_ptr<const Table> tokens, positions, types;  // embed
  std::int64_t position_offset = 0;
  Floats gamma, beta;                                     // norms
  float eps = 0;
  PackedLinear linear;                                    // linear
  Floats bias;
  int terms = 1;                                          // linear: int8 terms that a quantized input is split in
  float limit = 0;                                        // linear: of a quantized input, fixed; 0: each token's own
  Activation activation = Activation::gelu;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;     // rope, attention
  Floats cos, sin;                                        // rope: [positions, head_dim / 2]
  std::int64_t positions_known = 0;
  bool causal = false;
  float scale = 0;
  int layer = 0;                                          // attention: index among the attentions, for the KV cache
  Pooling pooling = Pooling::mean;
};

enum class Rows { tokens, sequences, selected };  // selected: all tokens, or the last of each sequence

struct Value {
  std::int64_t width = 0;
  Rows rows = Rows::tokens;
};

class Program {
 public:
  // Every method checks shapes and throws ShapeError with `name`; it returns the new value.
  int embed(std::shared_ptr<const Table> tokens, std::shared_ptr<const Table> positions, std::shared_ptr<const Table> types,
            std::int64_t position_offset);
  int layer_norm(const std::string& name, int x, Floats gamma, Floats beta, float eps);
  int rms_norm(const std::string& name, int x, Floats gamma, float eps);
  // terms 2: a quantized weight reads each token as two rows of codes, the second for what the first rounded away, so that
  // activations carry some 15 bits. The sums stay exact; the weights are read once, so decoding costs little more.
  // limit: a quantized weight reads codes of one fixed scale, limit / 127 (see QuantizeTask), instead of one a token. Weights
  // that take floats ignore both.
  int linear(const std::string& name, int x, PackedLinear weight, Floats bias, int terms = 1, float limit = 0);
  int add(int x, int y);
  int activation(int x, const std::string& kind);
  int silu_gate(int x);
  int rope(int x, std::int64_t heads, std::int64_t head_dim, Floats cos, Floats sin);
  int attention(const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim, bool causal,
                float scale);
  int select_last(int x);
  int pool(int x, const std::string& kind);
  int l2_normalize(int x);
  void output(const std::string& name, int x);
  void set_max_positions(std::int64_t limit);

  struct Output {
    std::string name;
    int value;
  };
  // Op i makes value i.
  const std::vector<Op>& ops() const { return ops_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  std::int64_t max_positions() const { return max_positions_; }  // 0: no limit
  int attentions() const { return attentions_; }

 private:
  const Value& value(const std::string& name, int x) const;
  int append(Op op, Value value);

  std::vector<Op> ops_;
  std::vector<Value> values_;
  std::vector<Output> outputs_;
  std::int64_t max_positions_ = 0;
  int attentions_ = 0;
};

}  // namespace aerogel
