// Parts of a job dealt out to threads so that the same thread gets the same ones again: what it wrote in one job is in its core's
// cache in the next (a line of another core's costs three times one of L2). A thread that is done with its own takes what others have
// not begun.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/aligned.h"

namespace aerogel {

class Shares {
 public:
  explicit Shares(int threads) : threads_(threads), shares_(new Share[static_cast<std::size_t>(threads)]) {}

  // A new job. Only while no thread takes.
  void deal(std::int64_t parts) {
    for (int thread = 0; thread < threads_; ++thread) {
      shares_[thread].next.store(parts * thread / threads_, std::memory_order_relaxed);
      shares_[thread].end = parts * (thread + 1) / threads_;
    }
  }

  // The next part of a thread, to be called once for each part by all threads together.
  std::int64_t take(int thread) {
    for (int i = thread;; i = i + 1 == threads_ ? 0 : i + 1) {
      Share& share = shares_[i];
      if (share.next.load(std::memory_order_relaxed) >= share.end) continue;
      const std::int64_t part = share.next.fetch_add(1, std::memory_order_relaxed);
      if (part < share.end) return part;
    }
  }

 private:
  struct alignas(kCacheLine) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };
  int threads_;
  std::unique_ptr<Share[]> shares_;
};

}  // namespace aerogel
