// disentangled_attention: of every sequence, over its own keys and values, with products of contents and positions (DeBERTa):
// [T, 3 heads d] = q | k | v -> [T, heads d].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/program.h"

namespace aerogel {

class DisentangledAttention : public Op {
 public:
  // rows: [2 reach + 1], by distance of a key from its query, the rows of position_keys and position_queries: not decreasing.
  // position_keys: [.., heads d], multiplied with queries, or null. position_queries: as many, multiplied with keys, or null.
  DisentangledAttention(const Program& program, const std::string& name, int x, std::int64_t heads, std::int64_t head_dim, float scale,
                        std::vector<std::int32_t> rows, Floats position_keys, Floats position_queries);

  std::size_t scratch_bytes(const Extent& extent) const override;
  void run(const Work& work) const override;

 private:
  std::int64_t heads_, head_dim_;
  float scale_;
  std::vector<std::int32_t> rows_;
  Floats position_keys_, position_queries_;
};

}  // namespace aerogel
