// KV cache: the keys and values of every token that a sequence has seen.
//
// They lie in blocks of kKeptTokens tokens, with those of all layers, which a pool hands out; a sequence is a list of blocks. It
// grows by a block and copies nothing. Blocks can belong to several sequences, which have the same tokens there; who writes into
// such a block gets one of its own first:
//
//     slot 0   [ A ][ B ][ C    ]          tokens 0 .. 63 | 64 .. 127 | 128 .. 140
//     slot 1   [ A ][ B ][ D      ]        shared up to token 128, or to 130, copied with C when it wrote token 130
//
//     a block  layer 0: keys [heads][64][head_dim] | values | scales of keys [heads][64] | scales of values | layer 1: ...
//
// Scales are there for int8 only: one a row of a head.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "ops/ops.h"

namespace aerogel {

// What one layer keeps of a token.
struct KvShape {
  std::int64_t heads, head_dim;
  bool exact = false;  // as float32, whatever the cache's numbers are
  bool values = true;  // a row of values beside that of keys
};

// Where everything is in a block.
class KvLayout {
 public:
  struct Layer {
    std::int64_t heads, head_dim;
    Kept numbers;
    KeptPlace keys, values;  // of head 0
    KeptPlace of_head(const KeptPlace& place, std::int64_t head) const {
      return {place.at + head * kKeptTokens * kept_row_bytes(numbers, head_dim),
              place.scales + head * kKeptTokens * static_cast<std::int64_t>(sizeof(float))};
    }
  };

  KvLayout(const std::vector<KvShape>& shapes, Kept numbers);
  const Layer& layer(int number) const { return layers_[number]; }
  std::size_t block_bytes() const { return bytes_; }

 private:
  std::vector<Layer> layers_;
  std::size_t bytes_ = 0;
};

// Blocks with the number of sequences that have them. One that nobody has any more is memory given back.
class KvPool {
 public:
  explicit KvPool(const KvLayout& layout) : layout_(layout) {}
  KvPool(const KvPool&) = delete;

  const KvLayout& layout() const { return layout_; }
  std::uint8_t* take();                  // throws std::bad_alloc
  void share(std::uint8_t* block);       // one more has it
  bool shared(const std::uint8_t* block) const { return header(block)->owners > 1; }
  void give(std::uint8_t* block);        // one less
  std::int64_t blocks() const { return blocks_; }
  std::size_t bytes() const { return static_cast<std::size_t>(blocks_) * (sizeof(Header) + layout_.block_bytes()); }

 private:
  // Before the block; a cache line, so that the block begins with one.
  struct alignas(kCacheLine) Header {
    std::int64_t owners;
  };
  static Header* header(std::uint8_t* block) { return reinterpret_cast<Header*>(block) - 1; }
  static const Header* header(const std::uint8_t* block) { return reinterpret_cast<const Header*>(block) - 1; }

  KvLayout layout_;
  std::int64_t blocks_ = 0;
};

// One sequence's keys and values.
class KvSequence {
 public:
  explicit KvSequence(KvPool& pool) : pool_(&pool) {}
  KvSequence(const KvSequence&) = delete;
  ~KvSequence() { truncate(0); }

  std::int64_t length() const { return length_; }
  // Room for `tokens` in all, of the sequence's own from length() on; what is there is kept. Throws std::bad_alloc; then the sequence
  // has what it had, and perhaps more room.
  void reserve(std::int64_t tokens);
  void advance(std::int64_t tokens) { length_ += tokens; }
  void truncate(std::int64_t tokens);  // at most length()
  // An empty sequence gets the first tokens of another one, at most its length(), without a copy.
  void share(const KvSequence& other, std::int64_t tokens);

  // Of kernels: the blocks of tokens [0, length() and what is reserved).
  std::uint8_t* const* blocks() const { return blocks_.data(); }
  const KvLayout::Layer& layer(int number) const { return pool_->layout().layer(number); }
  // The row of a head of a layer that is kept exact, or of a float32 cache.
  const float* key(int number, std::int64_t head, std::int64_t token) const {
    const KvLayout::Layer& l = layer(number);
    return reinterpret_cast<const float*>(blocks_[token / kKeptTokens] + l.of_head(l.keys, head).at) + token % kKeptTokens * l.head_dim;
  }

 private:
  KvPool* pool_;
  std::vector<std::uint8_t*> blocks_;
  std::int64_t length_ = 0;
};

// Sequences by slot number; a slot is made at first use.
class KvCache {
 public:
  KvCache(const std::vector<KvShape>& shapes, Kept numbers) : pool_(KvLayout(shapes, numbers)) {}
  KvSequence& slot(std::int64_t number) { return slots_.try_emplace(number, pool_).first->second; }
  std::int64_t length(std::int64_t number) const {
    const auto found = slots_.find(number);
    return found == slots_.end() ? 0 : found->second.length();
  }
  // Returns the bytes that nobody has any more.
  std::size_t free(std::int64_t number) {
    const std::size_t before = pool_.bytes();
    slots_.erase(number);
    return before - pool_.bytes();
  }
  std::size_t bytes() const { return pool_.bytes(); }

 private:
  KvPool pool_;
  std::map<std::int64_t, KvSequence> slots_;
};

}  // namespace aerogel
