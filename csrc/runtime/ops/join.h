// join: values side by side, each of the same token or of one that stands some places before or behind it.
#pragma once

#include <vector>

#include "runtime/program.h"

namespace aerogel {

class Join : public Op {
 public:
  // y[t] = parts[0][t + shifts[0]] | parts[1][t + shifts[1]] | ..., zeros where there is no such token in t's sequence. Throws
  // ShapeError unless there are as many shifts as parts, at least one, and every part has a row per token.
  Join(const Program& program, const std::vector<int>& parts, const std::vector<std::int64_t>& shifts);
  void run(const Work& work) const override;

 private:
  std::vector<std::int64_t> widths_, shifts_;
};

}  // namespace aerogel
