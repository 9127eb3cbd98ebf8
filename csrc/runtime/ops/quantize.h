// quantize: int8 codes of a value, as QuantizeTask says. No program has one: the plan puts it where codes are read that what
// makes the value does not write.
#pragma once

#include <string>

#include "runtime/op.h"

namespace aerogel {

class Quantize : public Op {
 public:
  // Of the value x, which has this name and shape. limit 0: each row's own.
  Quantize(const std::string& name, int x, const Value& value, float limit) : Op("quantize", name, {x}, value), limit_(limit) {}

  float limit() const { return limit_; }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 private:
  float limit_;
};

}  // namespace aerogel
