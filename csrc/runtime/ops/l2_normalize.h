// l2_normalize: every row scaled to length 1.
#pragma once

#include "runtime/program.h"

namespace aerogel {

class L2Normalize : public Op {
 public:
  L2Normalize(const Program& program, int x) : Op("l2_normalize", "l2_normalize", {x}, program.value("l2_normalize", x)) {}
  void run(const Work& work) const override;
};

}  // namespace aerogel
