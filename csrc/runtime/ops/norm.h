// layer_norm and rms_norm: every row normalized, as NormTask says.
#pragma once

#include <string>

#include "kernels/table.h"
#include "runtime/program.h"

namespace aerogel {

class Norm : public Op {
 public:
  bool absorbs_sum() const override { return true; }
  bool writes_codes() const override { return true; }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 protected:
  using Kernel = void (*Ops::*)(const NormTask&);
  Norm(const char* kind, Kernel kernel, const std::string& name, int x, const Value& in, Floats gamma, Floats beta, float eps);

 private:
  Kernel kernel_;
  Floats gamma_, beta_;  // beta: or null
  float eps_;
};

class LayerNorm : public Norm {
 public:
  LayerNorm(const Program& program, const std::string& name, int x, Floats gamma, Floats beta, float eps)
      : Norm("layer_norm", &Ops::layer_norm, name, x, program.value(name, x), std::move(gamma), std::move(beta), eps) {}
};

class RmsNorm : public Norm {
 public:
  RmsNorm(const Program& program, const std::string& name, int x, Floats gamma, float eps)
      : Norm("rms_norm", &Ops::rms_norm, name, x, program.value(name, x), std::move(gamma), nullptr, eps) {}
};

}  // namespace aerogel
