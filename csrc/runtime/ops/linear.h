// linear: y = x w^T + bias, [rows, K] -> [rows, N], with packed weights.
#pragma once

#include <string>

#include "runtime/packed_linear.h"
#include "runtime/program.h"

namespace aerogel {

class Linear : public Op {
 public:
  // bias: or null.
  // terms 2: a quantized weight reads each token as two rows of codes, the second for what the first rounded away, so that
  // activations carry some 15 bits. The sums stay exact; the weights are read once, so decoding costs little more.
  // limit: a quantized weight reads codes of one fixed scale, limit / 127 (see QuantizeTask), instead of one a token. Weights
  // that take floats ignore both.
  Linear(const Program& program, const std::string& name, int x, PackedLinear weight, Floats bias, int terms = 1, float limit = 0);

  int terms() const override { return terms_; }
  float limit() const { return limit_; }

  const PackedLinear* weight() const override { return &weight_; }
  std::optional<float> reads_codes() const override;
  bool by_rows() const override { return reads_codes().has_value(); }  // sums of floats are those of the whole batch's cut
  std::size_t scratch_bytes(const Extent& extent) const override { return weight_.scratch_bytes(terms_ * extent.tokens); }
  std::size_t workspace_bytes() const override;
  void run(const Work& work) const override;

 private:
  void run_terms(const Work& work) const;

  PackedLinear weight_;
  Floats bias_;
  int terms_;    // int8 terms that a quantized input is split in
  float limit_;  // of a quantized input, fixed; 0: each token's own
};

}  // namespace aerogel
