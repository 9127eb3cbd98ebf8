#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstring>

namespace aerogel {

void KvSequence::reserve(std::int64_t tokens) {
  if (tokens <= capacity_) return;
  const std::int64_t capacity = std::max<std::int64_t>({tokens, 2 * capacity_, 64});
  // All new arrays first: if memory runs out, the old ones are still whole.
  std::vector<AlignedBuffer<float>> keys, values;
  for (std::vector<AlignedBuffer<float>>* larger : {&keys, &values})
    for (const KvShape& shape : shapes_) larger->emplace_back(static_cast<std::size_t>(shape.heads * capacity * shape.head_dim));
  for (std::size_t layer = 0; layer < shapes_.size() && length_ != 0; ++layer)
    for (std::int64_t head = 0; head < shapes_[layer].heads; ++head) {
      const std::int64_t d = shapes_[layer].head_dim, bytes = length_ * d * static_cast<std::int64_t>(sizeof(float));
      std::memcpy(keys[layer].data() + head * capacity * d, keys_[layer].data() + head * capacity_ * d, static_cast<std::size_t>(bytes));
      std::memcpy(values[layer].data() + head * capacity * d, values_[layer].data() + head * capacity_ * d, static_cast<std::size_t>(bytes));
    }
  keys_ = std::move(keys);
  values_ = std::move(values);
  capacity_ = capacity;
}

void KvSequence::write(int layer, std::int64_t position, const float* key, const float* value) {
  const std::int64_t d = shapes_[layer].head_dim;
  for (std::int64_t head = 0; head < shapes_[layer].heads; ++head) {
    const std::int64_t to = (head * capacity_ + position) * d;
    std::memcpy(keys_[layer].data() + to, key + head * d, static_cast<std::size_t>(d) * sizeof(float));
    std::memcpy(values_[layer].data() + to, value + head * d, static_cast<std::size_t>(d) * sizeof(float));
  }
}

}  // namespace aerogel
