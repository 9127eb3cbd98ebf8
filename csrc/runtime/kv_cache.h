// KV cache: the keys and values of every token that a sequence has seen.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/aligned.h"

namespace aerogel {

// The key/value heads of one attention layer.
struct KvShape {
  std::int64_t heads, head_dim;
};

// One sequence's keys and values. A head's rows lie end to end, as attention reads them:
//
//     layer:  head 0 [capacity][head_dim] | head 1 [capacity][head_dim] | ...      once for keys, once for values
class KvSequence {
 public:
  // `shapes`: one per layer.
  explicit KvSequence(std::vector<KvShape> shapes) : shapes_(std::move(shapes)), keys_(shapes_.size()), values_(shapes_.size()) {}

  std::int64_t length() const { return length_; }
  // Room for `tokens` in all; what is there is kept. Capacity doubles, so appending costs amortised constant time.
  void reserve(std::int64_t tokens);
  // Writes row `position` (reserved, not before length()) of every head of a layer from `heads * head_dim` floats each.
  void write(int layer, std::int64_t position, const float* key, const float* value);
  void advance(std::int64_t tokens) { length_ += tokens; }
  void truncate(std::int64_t tokens) { length_ = tokens; }  // at most length()
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto* buffers : {&keys_, &values_})
      for (const AlignedBuffer<float>& buffer : *buffers) sum += buffer.bytes();
    return sum;
  }

  const float* keys(int layer, std::int64_t head) const { return keys_[layer].data() + head * capacity_ * shapes_[layer].head_dim; }
  const float* values(int layer, std::int64_t head) const { return values_[layer].data() + head * capacity_ * shapes_[layer].head_dim; }

 private:
  std::vector<KvShape> shapes_;
  std::vector<AlignedBuffer<float>> keys_, values_;
  std::int64_t length_ = 0, capacity_ = 0;
};

// Sequences by slot number; a slot is made at first use.
class KvCache {
 public:
  explicit KvCache(std::vector<KvShape> shapes) : shapes_(std::move(shapes)) {}
  KvSequence& slot(std::int64_t number) { return slots_.try_emplace(number, shapes_).first->second; }
  std::int64_t length(std::int64_t number) const {
    const auto found = slots_.find(number);
    return found == slots_.end() ? 0 : found->second.length();
  }
  // Returns the bytes of the slot.
  std::size_t free(std::int64_t number) {
    const auto found = slots_.find(number);
    const std::size_t bytes = found == slots_.end() ? 0 : found->second.bytes();
    slots_.erase(number);
    return bytes;
  }
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& [number, sequence] : slots_) sum += sequence.bytes();
    return sum;
  }

 private:
  std::vector<KvShape> shapes_;
  std::map<std::int64_t, KvSequence> slots_;
};

}  // namespace aerogel
