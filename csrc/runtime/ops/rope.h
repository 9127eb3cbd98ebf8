// rope: rotary position embeddings, as RopeTask says.
#pragma once

#include "runtime/program.h"

namespace aerogel {

class Rope : public Op {
 public:
  // Rotates the first `heads` heads of every row. cos, sin: [positions, head_dim / 2].
  Rope(const Program& program, int x, std::int64_t heads, std::int64_t head_dim, Floats cos, Floats sin);

  std::int64_t max_positions() const override { return static_cast<std::int64_t>(cos_->size()) / (head_dim_ / 2); }
  bool in_place() const override { return true; }
  void run(const Work& work) const override;

 private:
  std::int64_t heads_, head_dim_;
  Floats cos_, sin_;
};

}  // namespace aerogel
