// activation and gate: element by element, as ActivationTask says.
#pragma once

#include <string>

#include "kernels/table.h"
#include "runtime/program.h"

namespace aerogel {

class Activation : public Op {
 public:
  // kind: gelu, gelu_tanh, relu, tanh or silu. Throws Error for another.
  Activation(const Program& program, int x, const std::string& kind);

  bool writes_codes() const override { return true; }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 protected:
  using Kernel = void (*Ops::*)(const ActivationTask&);
  // The result's width may be less than the input's: a gate has its two halves there.
  Activation(Kernel kernel, const std::string& name, int x, std::int64_t in_width, Value result)
      : Op("activation", name, {x}, result), kernel_(kernel), in_width_(in_width) {}

 private:
  Kernel kernel_;
  std::int64_t in_width_;
};

// [rows, 2F] (gate | up) -> activation(gate) * up, [rows, F].
class Gate : public Activation {
 public:
  // kind: silu, gelu, gelu_tanh or relu. Throws Error for another.
  Gate(const Program& program, int x, const std::string& kind);
};

}  // namespace aerogel
