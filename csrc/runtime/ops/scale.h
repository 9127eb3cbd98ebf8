// scale: a value times a number.
#pragma once

#include "runtime/program.h"

namespace aerogel {

class Scale : public Op {
 public:
  Scale(const Program& program, int x, float factor);

  bool in_place() const override { return true; }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 private:
  float factor_;
};

}  // namespace aerogel
