// First come, first served: whose turn it is to use what one caller at a time may use.
//
// A turn lasts as long as its caller likes while nobody waits. Where somebody does, it is due to be handed over after a slice of
// time, at the next point where the caller can: so a short call waits for a slice of each that came before it, not for their whole
// work, and a call of less than a slice runs through once it begins.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

namespace aerogel {

class Turns {
 public:
  // Waits. Throws Stopped where the call of this thread is told to stop meanwhile; it has no turn then.
  void take();
  void release();
  // Whether the one whose turn it is should hand over. For any thread; one load where nobody waits.
  bool due() const {
    return waiting_.load(std::memory_order_relaxed) != 0 &&
           std::chrono::steady_clock::now().time_since_epoch().count() > slice_end_.load(std::memory_order_relaxed);
  }
  // Lets those who wait go first, and takes the next turn behind them. As take(), it throws Stopped.
  void hand_over();

 private:
  struct Waiter {
    std::condition_variable called;
    bool mine = false;
  };
  void wait(std::unique_lock<std::mutex>& guard);
  void next();
  void begin_slice();

  std::mutex mutex_;
  std::deque<Waiter*> queue_;
  bool taken_ = false;
  std::atomic<int> waiting_{0};
  std::atomic<std::chrono::steady_clock::rep> slice_end_{0};
};

}  // namespace aerogel
