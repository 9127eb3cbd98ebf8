#include "base/stop.h"

#include <atomic>
#include <chrono>
#include <cstdint>

#if defined(__linux__)
#include <time.h>
#endif

namespace aerogel {

struct StopState {
  std::atomic<bool> requested{false};
  bool (*check)();
  std::int64_t next;  // check, not before: milliseconds()
};

namespace {

constexpr std::int64_t kInterval = 50;

// Of a clock that never goes back. Asked between all pieces of a call: Linux has one that costs a few nanoseconds and moves every
// few milliseconds.
std::int64_t milliseconds() {
#if defined(__linux__)
  timespec now;
  if (clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0) return std::int64_t{1000} * now.tv_sec + now.tv_nsec / 1000000;
#endif
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

thread_local StopState* current = nullptr;
thread_local bool owned = false;  // this thread made the scope

}  // namespace

StopScope::StopScope(bool (*check)()) : state_(new StopState), outer_(current), outer_owned_(owned) {
  state_->check = check;
  state_->next = milliseconds() + kInterval;
  current = state_;
  owned = true;
}

StopScope::~StopScope() {
  current = outer_;
  owned = outer_owned_;
  delete state_;
}

bool StopScope::requested() const { return state_->requested.load(std::memory_order_relaxed); }

bool stop_requested() noexcept {
  StopState* const state = current;
  if (state == nullptr) return false;
  if (state->requested.load(std::memory_order_relaxed)) return true;
  if (!owned || milliseconds() < state->next) return false;
  state->next = INT64_MAX;  // what check() calls may come here again
  const bool stop = state->check();
  state->next = milliseconds() + kInterval;
  if (stop) state->requested.store(true, std::memory_order_relaxed);
  return stop;
}

void stop_if_requested() {
  if (stop_requested()) throw Stopped();
}

StopState* current_stop() noexcept { return current; }

void work_for(StopState* call) noexcept {
  current = call;
  owned = false;
}

}  // namespace aerogel
