// attention: of every sequence, over its own keys and values, [T, (heads + 2 kv_heads) d] = q | k | v -> [T, heads d].
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "runtime/program.h"

namespace aerogel {

// What scores are besides products, and who sees whom: AttentionTask says how. Nothing, unless given.
struct AttentionOptions {
  std::optional<std::int64_t> window;  // a query sees keys at this distance at most
  float softcap = 0.0f;                // 0: none
  Floats bias;                         // [heads, 2 reach + 1], by distance
  Floats slopes;                       // [heads], by distance
};

class Attention : public Op {
 public:
  // causal: a token sees only those before it, and keys and values can be kept for tokens to come.
  // scale: of the products of queries and keys.
  Attention(const Program& program, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads,
            std::int64_t head_dim, bool causal, float scale, AttentionOptions options = {});

  std::optional<KvShape> kv_cache() const override;
  std::size_t scratch_bytes(const Extent& extent) const override;
  void run(const Work& work) const override;

 private:
  // Keys [first, second) of `keys` are seen by queries at [begin, end).
  std::pair<std::int64_t, std::int64_t> seen(std::int64_t begin, std::int64_t end, std::int64_t keys) const;

  std::int64_t heads_, kv_heads_, head_dim_;
  bool causal_;
  float scale_;
  AttentionOptions options_;
  std::int64_t reach_ = 0;  // of the bias
  int layer_;               // of the KV cache, if causal
};

}  // namespace aerogel
