// short_conv: what each token takes over from the few before it, [T, 3 W] = B | C | X -> [T, W]. ShortConvTask says what it computes.
#pragma once

#include <optional>
#include <string>

#include "runtime/program.h"

namespace aerogel {

// The products that the tokens to come will read are kept in the KV cache, a row a token: so a slot can be cut to any length, as it
// can with keys and values.
class ShortConv : public Op {
 public:
  // kernel: [taps, W], the last row is of the token itself; it says W. bias: [W] or null.
  ShortConv(const Program& program, const std::string& name, int x, std::int64_t taps, Floats kernel, Floats bias);

  std::optional<KvShape> kv_cache() const override;
  bool writes_codes() const override { return true; }
  std::size_t scratch_bytes(const Extent& extent) const override;
  void run(const Work& work) const override;

 private:
  // The product of row `row` of sequence s, which may be before those of this call, or before the sequence: zeros.
  void product(const Work& work, std::int64_t s, std::int64_t row, float* v) const;
  // Rows [begin, end) of the frame, which are of sequence s.
  void convolve(const Work& work, std::int64_t s, std::int64_t begin, std::int64_t end, int thread) const;

  std::int64_t taps_;
  Floats kernel_, bias_;
  int layer_;  // of the KV cache
};

}  // namespace aerogel
