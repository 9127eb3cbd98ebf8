#include "base/turns.h"

#include <algorithm>

#include "base/stop.h"

namespace aerogel {
namespace {

// Long beside what a change of callers costs (100 microseconds), short beside what a person or a deadline notices.
constexpr std::chrono::milliseconds kSlice{10};
// How often one who waits asks whether to stop.
constexpr std::chrono::milliseconds kAsk{25};

}  // namespace

void Turns::begin_slice() {
  slice_end_.store((std::chrono::steady_clock::now() + kSlice).time_since_epoch().count(), std::memory_order_relaxed);
}

void Turns::take() {
  std::unique_lock<std::mutex> guard(mutex_);
  if (taken_) return wait(guard);
  taken_ = true;
  begin_slice();
}

void Turns::release() {
  const std::lock_guard<std::mutex> guard(mutex_);
  next();
}

void Turns::hand_over() {
  std::unique_lock<std::mutex> guard(mutex_);
  if (queue_.empty()) return begin_slice();
  next();
  wait(guard);
}

// The turn goes to the first who waits, or is free.
void Turns::next() {
  taken_ = !queue_.empty();
  if (!taken_) return;
  Waiter* const first = queue_.front();
  queue_.pop_front();
  waiting_.store(static_cast<int>(queue_.size()), std::memory_order_relaxed);
  first->mine = true;
  begin_slice();
  first->called.notify_one();
}

void Turns::wait(std::unique_lock<std::mutex>& guard) {
  Waiter self;
  queue_.push_back(&self);
  waiting_.store(static_cast<int>(queue_.size()), std::memory_order_relaxed);
  while (!self.called.wait_for(guard, kAsk, [&] { return self.mine; })) {
    guard.unlock();  // the question may run code that wants a turn itself
    const bool stop = stop_requested();
    guard.lock();
    if (!stop) continue;
    if (self.mine) {
      next();
    } else {
      queue_.erase(std::find(queue_.begin(), queue_.end(), &self));
      waiting_.store(static_cast<int>(queue_.size()), std::memory_order_relaxed);
    }
    throw Stopped();
  }
}

}  // namespace aerogel
