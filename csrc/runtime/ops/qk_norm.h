// qk_norm: rms_norm of queries and keys, before their products: [T, (heads + 2 kv_heads) d] = q | k | v, values as they are.
#pragma once

#include <string>

#include "runtime/program.h"

namespace aerogel {

class QkNorm : public Op {
 public:
  // A gamma of head_dim elements: each head by itself. One of as many as all its heads have: all of them together.
  QkNorm(const Program& program, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
         Floats query_gamma, Floats key_gamma, float eps);

  bool in_place() const override { return true; }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 private:
  // `count` slices of `width` columns from column `begin`, each normalized.
  struct Part {
    std::int64_t begin, count, width;
    Floats gamma;
  };
  Part queries_, keys_;
  float eps_;
};

}  // namespace aerogel
