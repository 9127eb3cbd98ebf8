// add: y = a + b.
#pragma once

#include "runtime/program.h"

namespace aerogel {

class Add : public Op {
 public:
  Add(const Program& program, int x, int y);

  bool is_sum() const override { return true; }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;
};

}  // namespace aerogel
