// What a forward pass is called with.
#pragma once

#include <cstdint>

namespace aerogel {

// A ragged batch: the tokens of all sequences end to end.
struct Batch {
  const std::int32_t* tokens;        // [T]
  const std::int32_t* types;         // [T] or null: all 0
  std::int64_t token_count;          // T
  const std::int64_t* offsets;       // [S+1]: sequence s has tokens [offsets[s], offsets[s+1])
  std::int64_t sequences;            // S
  const std::int64_t* slots;         // [S] KV-cache slots the tokens are appended to, or null: no cache
  bool last_only = false;            // select_last keeps the last token of each sequence
};

}  // namespace aerogel
