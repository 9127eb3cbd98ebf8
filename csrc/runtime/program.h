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

#include "runtime/op.h"

namespace aerogel {

class Program {
 public:
  // Makes an op of the class O (runtime/ops) from the arguments of its constructor that follow the program, and appends it.
  // Returns the new value. Throws ShapeError with the layer's name if shapes are wrong.
  template <class O, class... Arguments>
  int add(Arguments&&... arguments) {
    return append(std::make_shared<const O>(std::as_const(*this), std::forward<Arguments>(arguments)...));
  }

  void output(const std::string& name, int x);
  void set_max_positions(std::int64_t limit);

  struct Output {
    std::string name;
    int value;
  };
  // Op i makes value i.
  const std::vector<std::shared_ptr<const Op>>& ops() const { return ops_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  const std::vector<KvShape>& kv_caches() const { return kv_caches_; }  // of the ops that keep one, in their order
  std::int64_t max_positions() const { return max_positions_; }         // 0: no limit

  // The shape of value x. Throws ShapeError, with the name of the op that asks, if there is none.
  const Value& value(const std::string& name, int x) const;

 private:
  int append(std::shared_ptr<const Op> op);

  std::vector<std::shared_ptr<const Op>> ops_;
  std::vector<Output> outputs_;
  std::vector<KvShape> kv_caches_;
  std::int64_t max_positions_ = 0;
};

}  // namespace aerogel
