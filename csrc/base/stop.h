// Ending a call early because its caller was told to stop (Ctrl-C).
//
// Who starts a call puts a StopScope around it. Whatever works for the call, on its own thread or as a part of a team's job, asks
// stop_requested() between pieces of some milliseconds, and leaves the rest undone where that is so; on the call's own thread,
// outside of parts, stop_if_requested() ends it by an exception. Results that were left half done never get out of the scope.
//
// Kernels ask too, so there is nothing in here that a compiler could build for one instruction set and link for all.
#pragma once

namespace aerogel {

// Thrown on the thread of the call. No Error: it says nothing about the arguments, and nobody but the scope's owner catches it.
class Stopped {};

struct StopState;

class StopScope {
 public:
  // check() is called on this thread, out of stop_requested(), 50 ms after the begin and then every 50 ms; true: stop.
  explicit StopScope(bool (*check)());
  ~StopScope();
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;

  bool requested() const;

 private:
  StopState* state_;
  StopState* outer_;
  bool outer_owned_;
};

// Whether the call that this thread works for is to end; false outside of any scope. About 10 ns on the call's own thread, less on
// others.
bool stop_requested() noexcept;

// Throws Stopped if stop_requested().
void stop_if_requested();

// The call that this thread works for, or null, and how a worker takes part in it.
StopState* current_stop() noexcept;
void work_for(StopState* call) noexcept;

}  // namespace aerogel
