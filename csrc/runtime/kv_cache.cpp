#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstring>

namespace aerogel {

void KvSequence::reserve(std::int64_t tokens) {
  if (tokens <= capacity_) return;
  const std::int64_t capacity = std::max<std::int64_t>({tokens, 2 * capacity_, 64});
  for (std::size_t layer = 0; layer < widths_.size(); ++layer)
    for (AlignedBuffer<float>* rows : {&keys_[layer], &values_[layer]}) {
      AlignedBuffer<float> larger(static_cast<std::size_t>(capacity * widths_[layer]));
      if (length_ != 0) std::memcpy(larger.data(), rows->data(), static_cast<std::size_t>(length_ * widths_[layer]) * sizeof(float));
      *rows = std::move(larger);
    }
  capacity_ = capacity;
}

}  // namespace aerogel
