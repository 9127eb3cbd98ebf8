// KV cache: the keys and values of every token that a sequence has seen.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/aligned.h"

namespace aerogel {

// One sequence's keys and values: for each layer [capacity, width] floats each, width = kv_heads * head_dim.
class KvSequence {
 public:
  // `widths`: one per layer.
  explicit KvSequence(std::vector<std::int64_t> widths) : widths_(std::move(widths)), keys_(widths_.size()), values_(widths_.size()) {}

  std::int64_t length() const { return length_; }
  // Room for `tokens` in all; what is there is kept. Capacity doubles, so appending costs amortised constant time.
  void reserve(std::int64_t tokens);
  void advance(std::int64_t tokens) { length_ += tokens; }
  // Forgets everything behind the first `tokens`.
  void truncate(std::int64_t tokens) { length_ = tokens < length_ ? tokens : length_; }

  float* keys(int layer) { return keys_[layer].data(); }
  float* values(int layer) { return values_[layer].data(); }
  std::int64_t width(int layer) const { return widths_[layer]; }

 private:
  std::vector<std::int64_t> widths_;
  std::vector<AlignedBuffer<float>> keys_, values_;
  std::int64_t length_ = 0, capacity_ = 0;
};

// Sequences by slot number; a slot is made at first use.
class KvCache {
 public:
  explicit KvCache(std::vector<std::int64_t> widths) : widths_(std::move(widths)) {}
  KvSequence& slot(std::int64_t number) { return slots_.try_emplace(number, widths_).first->second; }
  std::int64_t length(std::int64_t number) const {
    const auto found = slots_.find(number);
    return found == slots_.end() ? 0 : found->second.length();
  }
  void free(std::int64_t number) { slots_.erase(number); }

 private:
  std::vector<std::int64_t> widths_;
  std::map<std::int64_t, KvSequence> slots_;
};

}  // namespace aerogel
