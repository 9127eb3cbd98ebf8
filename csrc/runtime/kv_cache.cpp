#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace aerogel {
namespace {

std::int64_t blocks_of(std::int64_t tokens) { return (tokens + kKeptTokens - 1) / kKeptTokens; }

}  // namespace

KvLayout::KvLayout(const std::vector<KvShape>& shapes, Kept numbers) {
  std::int64_t next = 0;
  for (const KvShape& shape : shapes) {
    Layer layer{shape.heads, shape.head_dim, shape.exact ? Kept::float32 : numbers, {}, {}};
    const std::int64_t rows = shape.heads * kKeptTokens * kept_row_bytes(layer.numbers, shape.head_dim);
    const std::int64_t scales = layer.numbers == Kept::int8 ? shape.heads * kKeptTokens * static_cast<std::int64_t>(sizeof(float)) : 0;
    layer.keys.at = next;
    layer.values.at = layer.keys.at + rows;
    layer.keys.scales = layer.values.at + (shape.values ? rows : 0);
    layer.values.scales = layer.keys.scales + scales;
    next = layer.values.scales + (shape.values ? scales : 0);  // a multiple of 64, as kKeptTokens is
    layers_.push_back(layer);
  }
  bytes_ = static_cast<std::size_t>(next);
}

std::uint8_t* KvPool::take() {
  void* const memory = std::aligned_alloc(kCacheLine, sizeof(Header) + layout_.block_bytes());
  if (memory == nullptr) throw std::bad_alloc();
  ++blocks_;
  return reinterpret_cast<std::uint8_t*>(new (memory) Header{1} + 1);
}

void KvPool::share(std::uint8_t* block) { ++header(block)->owners; }

void KvPool::give(std::uint8_t* block) {
  if (--header(block)->owners != 0) return;
  --blocks_;
  std::free(header(block));
}

void KvSequence::reserve(std::int64_t tokens) {
  const std::size_t end = static_cast<std::size_t>(blocks_of(tokens));
  blocks_.reserve(end);
  // The block that goes on may be somebody else's too.
  if (tokens > length_ && length_ % kKeptTokens != 0) {
    std::uint8_t*& last = blocks_[length_ / kKeptTokens];
    if (pool_->shared(last)) {
      std::uint8_t* const own = pool_->take();
      std::memcpy(own, last, pool_->layout().block_bytes());
      pool_->give(last);
      last = own;
    }
  }
  while (blocks_.size() < end) blocks_.push_back(pool_->take());
}

void KvSequence::truncate(std::int64_t tokens) {
  const std::size_t end = static_cast<std::size_t>(blocks_of(tokens));
  for (std::size_t i = end; i < blocks_.size(); ++i) pool_->give(blocks_[i]);
  blocks_.resize(std::min(end, blocks_.size()));
  length_ = tokens;
}

void KvSequence::share(const KvSequence& other, std::int64_t tokens) {
  truncate(0);
  blocks_.assign(other.blocks_.begin(), other.blocks_.begin() + blocks_of(tokens));
  for (std::uint8_t* block : blocks_) pool_->share(block);
  length_ = tokens;
}

}  // namespace aerogel
