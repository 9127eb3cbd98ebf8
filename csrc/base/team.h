// A team of threads that runs the parts of one job at a time.
//
// Parts are claimed one by one, never assigned: a thread that the system has taken off its core, or that sleeps, holds
// nobody up, the others do its share. So the team degrades in proportion beside other processes and under a CPU quota.
// Idle threads spin for a moment, since the next part of a forward pass comes that soon, and then sleep.
//
// Callers take turns (turns.h), and hand over between parts. A call that is told to stop (stop.h) leaves its parts undone: run() then
// throws Stopped, when no thread works on one any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace aerogel {

class Team {
 public:
  // `threads` counts the caller: threads - 1 workers are started, at the first parallel job. Throws Error below 1.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return threads_; }

  // Calls body(part, thread) once for every part in [0, parts), thread in [0, size()), and returns when all are done.
  // One caller at a time: hold lock() around a whole forward pass. An exception out of body is not allowed.
  template <class Body>
  void run(std::int64_t parts, const Body& body) {
    for (std::int64_t begun = 0; begun < parts;)
      begun += run_some(parts - begun, [&body, begun](std::int64_t part, int thread) noexcept(noexcept(body(part, thread))) {
        body(begun + part, thread);
      });
  }

  // As run(), but it may return early, mostly when it is another caller's turn: how many parts, the first ones, were begun and are
  // done, one at least. The next call waits for a turn first. A body that takes long may ask due() and return, for its caller to go on
  // with later.
  template <class Body>
  std::int64_t run_some(std::int64_t parts, const Body& body) {
    static_assert(std::is_nothrow_invocable_v<const Body&, std::int64_t, int>, "mark the body noexcept");
    if (parts <= 0) return 0;
    return run_parts(parts, [](const void* context, std::int64_t part, int thread) noexcept {
      (*static_cast<const Body*>(context))(part, thread);
    }, &body);
  }

  // Whether it is another caller's turn.
  bool due();

 private:
  struct State;

 public:
  // The right to call run(), which waits for its turn. A thread that has it already, since it was called back in the middle of a job
  // (by a signal's handler), gets another by which jobs run on that thread alone.
  class Turn {
   public:
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    friend class Team;
    explicit Turn(State* state);
    static Turn* of(const State* state);  // the innermost one of this thread; null if it has none
    State* state_;
    Turn* outer_;
    bool nested_;
    bool held_ = false;
  };
  Turn lock() { return Turn(state()); }

 private:
  using Call = void (*)(const void* context, std::int64_t part, int thread) noexcept;

  std::int64_t run_parts(std::int64_t parts, Call call, const void* context);
  std::int64_t run_alone(State* state, Turn* turn, std::int64_t parts, Call call, const void* context);
  void start_workers(State* state);
  void wait_until_done(State* state, std::int64_t parts);
  static void work(State* state, int thread);
  State* state();

  int threads_;
  std::atomic<State*> state_{nullptr};
};

}  // namespace aerogel
