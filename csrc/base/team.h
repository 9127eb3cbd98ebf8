// A team of threads that runs the parts of one job at a time.
//
// Parts are claimed one by one, never assigned: a thread that the system has taken off its core, or that sleeps, holds
// nobody up, the others do its share. So the team degrades in proportion beside other processes and under a CPU quota.
// Idle threads spin for a moment, since the next part of a forward pass comes that soon, and then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

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
    static_assert(std::is_nothrow_invocable_v<const Body&, std::int64_t, int>, "mark the body noexcept");
    if (parts <= 0) return;
    if (parts == 1 || threads_ == 1) {
      for (std::int64_t part = 0; part < parts; ++part) body(part, 0);
      return;
    }
    run_parallel(parts, [](const void* context, std::int64_t part, int thread) noexcept {
      (*static_cast<const Body*>(context))(part, thread);
    }, &body);
  }

  // The right to call run().
  std::unique_lock<std::mutex> lock();

 private:
  using Call = void (*)(const void* context, std::int64_t part, int thread) noexcept;
  struct State;

  void run_parallel(std::int64_t parts, Call call, const void* context);
  static void work(State* state, int thread);
  State* state();

  int threads_;
  std::atomic<State*> state_{nullptr};
};

}  // namespace aerogel
