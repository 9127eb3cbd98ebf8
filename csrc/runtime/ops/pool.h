// pool: one row a sequence out of the rows of its tokens, in one way or in several, side by side.
#pragma once

#include <string>
#include <vector>

#include "runtime/program.h"

namespace aerogel {

class Pool : public Op {
 public:
  // kinds, each: mean, max, cls (the first token), last, mean_sqrt_len (the sum over the root of the number of tokens) or
  // weightedmean (the first token counts once, the second twice, ...). Throws Error for another, or for none.
  Pool(const Program& program, int x, const std::vector<std::string>& kinds);
  void run(const Work& work) const override;

 private:
  enum class Kind { mean, max, cls, last, mean_sqrt_len, weightedmean };
  static Kind kind_of(const std::string& kind);

  std::vector<Kind> kinds_;
};

}  // namespace aerogel
