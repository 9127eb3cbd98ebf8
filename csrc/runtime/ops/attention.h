// attention: of every sequence, over its own keys and values, [T, (heads + 2 kv_heads) d] = q | k | v -> [T, heads d].
#pragma once

#include <string>

#include "runtime/program.h"

namespace aerogel {

class Attention : public Op {
 public:
  // causal: a token sees only those before it, and keys and values can be kept for tokens to come.
  // scale: of the products of queries and keys.
  Attention(const Program& program, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads,
            std::int64_t head_dim, bool causal, float scale);

  std::optional<KvShape> kv_cache() const override;
  std::size_t scratch_bytes(const Extent& extent) const override;
  void run(const Work& work) const override;

 private:
  std::int64_t heads_, kv_heads_, head_dim_;
  bool causal_;
  float scale_;
  int layer_;  // of the KV cache, if causal
};

}  // namespace aerogel
