#include "runtime/program.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace aerogel {
namespace {

void expect(bool holds, const std::string& name, const std::string& expected, const std::string& got) {
  if (!holds) throw ShapeError(name + ": expected " + expected + ", got " + got);
}

void expect_length(const Floats& vector, std::int64_t length, const std::string& name) {
  expect(vector != nullptr && static_cast<std::int64_t>(vector->size()) == length, name, "[" + std::to_string(length) + "]",
         vector == nullptr ? "nothing" : "[" + std::to_string(vector->size()) + "]");
}

void expect_table(const Table& table, std::int64_t width) {
  expect(table.entries >= 1 && table.width == width, table.name, "[entries, " + std::to_string(width) + "]",
         shape_text(table.entries, table.width));
}

}  // namespace

const Value& Program::value(const std::string& name, int x) const {
  if (x < 0 || x >= static_cast<int>(values_.size()))
    throw ShapeError(name + ": there is no value " + std::to_string(x) + " in this program");
  return values_[x];
}

int Program::append(Op op, Value value) {
  ops_.push_back(std::move(op));
  values_.push_back(value);
  return static_cast<int>(values_.size()) - 1;
}

int Program::embed(std::shared_ptr<const Table> tokens, std::shared_ptr<const Table> positions,
                   std::shared_ptr<const Table> types, std::int64_t position_offset) {
  if (tokens == nullptr) throw ShapeError("embed: a token table is needed");
  const std::int64_t width = tokens->width;
  expect_table(*tokens, width);
  if (positions != nullptr) {
    expect_table(*positions, width);
    expect(position_offset >= 0 && position_offset < positions->entries, positions->name,
           "more than " + std::to_string(position_offset) + " positions", std::to_string(positions->entries));
    set_max_positions(positions->entries - position_offset);
  }
  if (types != nullptr) expect_table(*types, width);
  Op op{OpKind::embed, tokens->name};
  op.tokens = std::move(tokens);
  op.positions = std::move(positions);
  op.types = std::move(types);
  op.position_offset = position_offset;
  return append(std::move(op), {width, Rows::tokens});
}

int Program::layer_norm(const std::string& name, int x, Floats gamma, Floats beta, float eps) {
  const Value in = value(name, x);
  expect_length(gamma, in.width, name + ".weight");
  if (beta != nullptr) expect_length(beta, in.width, name + ".bias");
  Op op{OpKind::layer_norm, name, x};
  op.gamma = std::move(gamma);
  op.beta = std::move(beta);
  op.eps = eps;
  return append(std::move(op), in);
}

int Program::rms_norm(const std::string& name, int x, Floats gamma, float eps) {
  const Value in = value(name, x);
  expect_length(gamma, in.width, name + ".weight");
  Op op{OpKind::rms_norm, name, x};
  op.gamma = std::move(gamma);
  op.eps = eps;
  return append(std::move(op), in);
}

int Program::linear(const std::string& name, int x, PackedLinear weight, Floats bias, int terms, float limit) {
  const Value in = value(name, x);
  if (weight.empty()) throw ShapeError(name + ": no weight given");
  const std::int64_t n = weight.n(), k = weight.k();
  expect(k == in.width, name, shape_text(n, in.width), shape_text(n, k));
  if (bias != nullptr) expect_length(bias, n, name + ".bias");
  if (terms != 1 && terms != 2) throw ShapeError(name + ": expected 1 or 2 terms, got " + std::to_string(terms));
  if (limit != 0 && !(limit > 0 && std::isfinite(limit) && std::isfinite(127.0f / limit)))
    throw DataError(name + ": input limit: expected a positive number of ordinary size, got " + std::to_string(limit));
  if (limit != 0 && terms != 1) throw Error(name + ": an input limit and " + std::to_string(terms) + " terms exclude each other");
  Op op{OpKind::linear, name, x};
  op.terms = weight.quantized_x() ? terms : 1;
  op.limit = weight.quantized_x() ? limit : 0;
  op.linear = std::move(weight);
  op.bias = std::move(bias);
  return append(std::move(op), {n, in.rows});
}

int Program::add(int x, int y) {
  const Value a = value("add", x), b = value("add", y);
  expect(a.width == b.width && a.rows == b.rows, "add", "two values of one shape",
         "widths " + std::to_string(a.width) + " and " + std::to_string(b.width));
  return append(Op{OpKind::add, "add", x, y}, a);
}

int Program::activation(int x, const std::string& kind) {
  static const std::pair<const char*, Activation> kKinds[] = {{"gelu", Activation::gelu},
                                                              {"gelu_tanh", Activation::gelu_tanh},
                                                              {"relu", Activation::relu},
                                                              {"tanh", Activation::tanh},
                                                              {"silu", Activation::silu}};
  const Value in = value("activation", x);
  for (const auto& [name, activation] : kKinds)
    if (kind == name) {
      Op op{OpKind::activation, kind, x};
      op.activation = activation;
      return append(std::move(op), in);
    }
  throw Error("unknown activation '" + kind + "': expected one of gelu, gelu_tanh, relu, tanh, silu");
}

int Program::silu_gate(int x) {
  const Value in = value("silu_gate", x);
  expect(in.width % 2 == 0, "silu_gate", "an even width (gate and up)", std::to_string(in.width));
  Op op{OpKind::activation, "silu_gate", x};
  op.activation = Activation::silu_gate;
  return append(std::move(op), {in.width / 2, in.rows});
}

int Program::rope(int x, std::int64_t heads, std::int64_t head_dim, Floats cos, Floats sin) {
  const Value in = value("rope", x);
  expect(heads >= 1 && head_dim >= 2 && head_dim % 2 == 0 && heads <= in.width / head_dim, "rope",
         "an even head size and heads that fit " + std::to_string(in.width) + " columns", shape_text(heads, head_dim));
  expect(in.rows == Rows::tokens, "rope", "a value with a row per token", "one with a row per sequence");
  const std::int64_t half = head_dim / 2;
  expect(cos != nullptr && sin != nullptr && cos->size() == sin->size() && cos->size() != 0 && cos->size() % half == 0, "rope",
         "cos and sin of shape [positions, " + std::to_string(half) + "]", "other sizes");
  Op op{OpKind::rope, "rope", x};
  op.heads = heads;
  op.head_dim = head_dim;
  op.positions_known = static_cast<std::int64_t>(cos->size()) / half;
  // Every layer of a model turns by the same angles: one copy of the tables serves them all.
  const auto equal = [](const Floats& a, const Floats& b) {
    return a->size() == b->size() && std::memcmp(a->data(), b->data(), a->bytes()) == 0;
  };
  for (const Op& earlier : ops_)
    if (earlier.kind == OpKind::rope && equal(earlier.cos, cos) && equal(earlier.sin, sin)) {
      cos = earlier.cos;
      sin = earlier.sin;
      break;
    }
  op.cos = std::move(cos);
  op.sin = std::move(sin);
  set_max_positions(op.positions_known);
  return append(std::move(op), in);
}

int Program::attention(const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                       bool causal, float scale) {
  const Value in = value(name, x);
  expect(heads >= 1 && kv_heads >= 1 && heads % kv_heads == 0, name, "a number of heads that kv_heads divides",
         std::to_string(heads) + " and " + std::to_string(kv_heads));
  expect(head_dim >= 1 && head_dim <= 256, name, "a head size of 1 to 256", std::to_string(head_dim));
  expect(in.width == (heads + 2 * kv_heads) * head_dim, name, std::to_string((heads + 2 * kv_heads) * head_dim) + " columns of q, k and v",
         std::to_string(in.width));
  expect(in.rows == Rows::tokens, name, "a value with a row per token", "one with a row per sequence");
  Op op{OpKind::attention, name, x};
  op.heads = heads;
  op.kv_heads = kv_heads;
  op.head_dim = head_dim;
  op.causal = causal;
  op.scale = scale;
  op.layer = attentions_++;
  return append(std::move(op), {heads * head_dim, Rows::tokens});
}

int Program::select_last(int x) {
  const Value in = value("select_last", x);
  expect(in.rows == Rows::tokens, "select_last", "a value with a row per token", "another");
  return append(Op{OpKind::select_last, "select_last", x}, {in.width, Rows::selected});
}

int Program::pool(int x, const std::string& kind) {
  static const std::pair<const char*, Pooling> kKinds[] = {
      {"mean", Pooling::mean}, {"max", Pooling::max}, {"cls", Pooling::cls}, {"last", Pooling::last}};
  const Value in = value("pool", x);
  expect(in.rows == Rows::tokens, "pool", "a value with a row per token", "another");
  for (const auto& [name, pooling] : kKinds)
    if (kind == name) {
      Op op{OpKind::pool, "pool_" + kind, x};
      op.pooling = pooling;
      return append(std::move(op), {in.width, Rows::sequences});
    }
  throw Error("unknown pooling '" + kind + "': expected one of mean, max, cls, last");
}

int Program::l2_normalize(int x) {
  const Value in = value("l2_normalize", x);
  return append(Op{OpKind::l2_normalize, "l2_normalize", x}, in);
}

void Program::output(const std::string& name, int x) {
  value("output " + name, x);
  for (const Output& known : outputs_)
    if (known.name == name) throw Error("output '" + name + "' is declared twice");
  outputs_.push_back({name, x});
}

void Program::set_max_positions(std::int64_t limit) {
  if (limit < 1) throw ShapeError("max_positions: expected at least 1, got " + std::to_string(limit));
  max_positions_ = max_positions_ == 0 ? limit : std::min(max_positions_, limit);
}

}  // namespace aerogel
