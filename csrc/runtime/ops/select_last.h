// select_last: the last token of each sequence where a batch wants only that, else all of them.
#pragma once

#include "runtime/program.h"

namespace aerogel {

class SelectLast : public Op {
 public:
  SelectLast(const Program& program, int x);
  void run(const Work& work) const override;
};

}  // namespace aerogel
