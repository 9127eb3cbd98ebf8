#include "base/stop.h"

#include <atomic>
#include <chrono>

namespace aerogel {

struct StopState {
  std::atomic<bool> requested{false};
  bool (*check)();
  std::chrono::steady_clock::time_point next;  // check, not before
};

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kInterval{50};

thread_local StopState* current = nullptr;
thread_local bool owned = false;  // this thread made the scope

}  // namespace

StopScope::StopScope(bool (*check)()) : state_(new StopState), outer_(current), outer_owned_(owned) {
  state_->check = check;
  state_->next = Clock::now() + kInterval;
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
  if (!owned || Clock::now() < state->next) return false;
  state->next = Clock::time_point::max();  // what check() calls may come here again
  const bool stop = state->check();
  state->next = Clock::now() + kInterval;
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
