// pool: one row a sequence out of the rows of its tokens.
#pragma once

#include <string>

#include "runtime/program.h"

namespace aerogel {

class Pool : public Op {
 public:
  // kind: mean, max, cls (the first token) or last. Throws Error for another.
  Pool(const Program& program, int x, const std::string& kind);
  void run(const Work& work) const override;

 private:
  enum class Kind { mean, max, cls, last };
  static Kind kind_of(const std::string& kind);

  Kind pooling_;
};

}  // namespace aerogel
