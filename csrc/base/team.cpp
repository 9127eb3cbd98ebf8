#include "base/team.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/cpus.h"
#include "base/error.h"
#include "base/stop.h"
#include "base/turns.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace aerogel {
namespace {

// Waking a sleeper takes some 40 microseconds in a virtual machine, as long as a small op: threads that have a core each
// spin over the serial stretches of a forward pass (MiniLM, 16 tokens: 0.76x of the time with 30 microseconds). Threads that
// outnumber the cores leave them to each other sooner.
constexpr std::chrono::microseconds kSpinAlone{150}, kSpinCrowded{30};

void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Spins until `ready()` or until the time is up; says whether it became ready.
template <class Ready>
bool spin(std::chrono::microseconds time, const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

// A child of fork() has none of its parent's threads. Teams notice by this number and start their own.
std::atomic<int> fork_generation{0};

void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const bool registered = [] {
    pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });
    return true;
  }();
  (void)registered;
#endif
}

}  // namespace

// The job of the moment is published in one word, so that claiming a part and knowing which job it belongs to is one
// atomic step:
//
//     63            40 39            20 19             0
//     [ epoch (24)    | parts (20)     | next part (20) ]
//
// A thread claims with fetch_add(1). If the `next` it got is below `parts`, that part is its own and the job cannot end
// before it reports it done, so call, context and scope are stable until then. Otherwise it got nothing and touches nothing.
// A thread adds only after it saw next < parts, hence at most size() times too often, which 20 bits hold.
//
// When another caller's turn is due, whoever sees it first closes the job: `parts` becomes `next`. What was claimed is done, the
// rest is published again in the caller's next turn.
struct Team::State {
  Turns turns;

  std::atomic<std::uint64_t> ticket{0};
  Call call = nullptr;
  const void* context = nullptr;
  StopState* scope = nullptr;
  std::atomic<std::int64_t> done{0};

  std::mutex mutex;  // for the two condition variables
  std::condition_variable wake, finished;
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_waits{false};
  std::atomic<bool> stop{false};

  std::vector<std::thread> workers;
  int generation = 0;
  std::chrono::microseconds spin{0};
};

namespace {

constexpr std::int64_t kMaxParts = (1 << 20) - 1024;

struct Ticket {
  std::uint64_t word;
  std::int64_t next() const { return static_cast<std::int64_t>(word & 0xfffff); }
  std::int64_t parts() const { return static_cast<std::int64_t>((word >> 20) & 0xfffff); }
  std::uint64_t epoch() const { return word >> 40; }
  bool open() const { return next() < parts(); }
};

}  // namespace

Team::Team(int threads) : threads_(threads) {
  if (threads < 1 || threads > kMostThreads)
    throw Error("threads: expected 1 to " + std::to_string(kMostThreads) + ", got " + std::to_string(threads));
  watch_forks();
}

Team::~Team() {
  State* state = state_.load();
  if (state == nullptr) return;
  if (state->generation != fork_generation.load(std::memory_order_relaxed)) return;  // the parent's: cannot be joined here
  {
    std::lock_guard<std::mutex> guard(state->mutex);
    state->stop.store(true);
  }
  state->wake.notify_all();
  for (std::thread& worker : state->workers) worker.join();
  delete state;
}

// After a fork the old state, whose locks may be held by threads that no longer exist, is left alone and a new one made.
Team::State* Team::state() {
  const int generation = fork_generation.load(std::memory_order_relaxed);
  State* current = state_.load(std::memory_order_acquire);
  while (current == nullptr || current->generation != generation) {
    auto fresh = std::make_unique<State>();
    fresh->generation = generation;
    fresh->spin = threads_ <= usable_cores() ? kSpinAlone : kSpinCrowded;
    if (state_.compare_exchange_strong(current, fresh.get(), std::memory_order_acq_rel)) current = fresh.release();
  }
  return current;
}

// ---- turns

namespace {

thread_local void* innermost_turn = nullptr;

}  // namespace

Team::Turn* Team::Turn::of(const State* state) {
  auto* turn = static_cast<Turn*>(innermost_turn);
  while (turn != nullptr && turn->state_ != state) turn = turn->outer_;
  return turn;
}

Team::Turn::Turn(State* state) : state_(state), outer_(static_cast<Turn*>(innermost_turn)), nested_(of(state) != nullptr) {
  if (!nested_) state_->turns.take();
  held_ = !nested_;
  innermost_turn = this;
}

Team::Turn::~Turn() {
  innermost_turn = outer_;
  // In a child that was forked in the middle, the state is the parent's, and its locks may be closed for good.
  if (held_ && state_->generation == fork_generation.load(std::memory_order_relaxed)) state_->turns.release();
}

bool Team::due() { return state()->turns.due(); }

// ---- jobs

namespace {

// Takes the unclaimed parts out of a job; those who see nothing to claim then find how many there were in `parts`.
template <class State>
void close(State* state) {
  std::uint64_t word = state->ticket.load(std::memory_order_acquire);
  const auto closed = [](std::uint64_t w) { return (w & ~(std::uint64_t{0xfffff} << 20)) | static_cast<std::uint64_t>(Ticket{w}.next()) << 20; };
  while (Ticket{word}.open() && !state->ticket.compare_exchange_weak(word, closed(word), std::memory_order_acq_rel)) {
  }
}

// Claims and runs parts until none is left. Those of a call that is told to stop are claimed, and left undone.
template <class State>
void drain(State* state, int thread) {
  while (Ticket{state->ticket.load(std::memory_order_acquire)}.open()) {
    const Ticket claimed{state->ticket.fetch_add(1, std::memory_order_acq_rel)};
    if (!claimed.open()) break;
    if (thread != 0) work_for(state->scope);
    if (!stop_requested()) state->call(state->context, claimed.next(), thread);
    state->done.fetch_add(1, std::memory_order_seq_cst);
    if (state->caller_waits.load(std::memory_order_seq_cst)) {
      std::lock_guard<std::mutex> guard(state->mutex);
      state->finished.notify_one();
    }
    if (state->turns.due()) close(state);  // after a part, so that every turn gets somewhere
  }
  if (thread != 0) work_for(nullptr);
}

}  // namespace

// One part, a team of one, or a nested turn: parts run here, one by one.
std::int64_t Team::run_alone(State* state, Turn* turn, std::int64_t parts, Call call, const void* context) {
  for (std::int64_t part = 0; part < parts; ++part) {
    if (part != 0 && turn != nullptr && !turn->nested_ && state->turns.due()) return part;
    stop_if_requested();
    call(context, part, 0);
  }
  return parts;
}

void Team::start_workers(State* state) {
  for (int thread = static_cast<int>(state->workers.size()) + 1; thread < threads_; ++thread) {
    try {
      state->workers.emplace_back(work, state, thread);
    } catch (const std::system_error& error) {
      throw Error("threads: the system starts no more than " + std::to_string(thread) + " of " + std::to_string(threads_) +
                  ": " + error.what());
    }
  }
}

std::int64_t Team::run_parts(std::int64_t parts, Call call, const void* context) {
  State* s = state();
  Turn* const turn = Turn::of(s);
  if (turn != nullptr && turn->held_ && s->turns.due()) {
    turn->held_ = false;  // while it waits, which may end in an exception
    s->turns.hand_over();
    turn->held_ = true;
  }
  if (parts == 1 || threads_ == 1 || (turn != nullptr && turn->nested_)) return run_alone(s, turn, parts, call, context);
  start_workers(s);
  parts = std::min(parts, kMaxParts);

  s->call = call;
  s->context = context;
  s->scope = current_stop();
  s->done.store(0, std::memory_order_relaxed);
  const std::uint64_t epoch = Ticket{s->ticket.load(std::memory_order_relaxed)}.epoch() + 1;
  s->ticket.store((epoch << 40) | (static_cast<std::uint64_t>(parts) << 20), std::memory_order_seq_cst);
  if (s->sleepers.load(std::memory_order_seq_cst) != 0) {
    std::lock_guard<std::mutex> guard(s->mutex);
    s->wake.notify_all();
  }
  drain(s, 0);
  const std::int64_t begun = Ticket{s->ticket.load(std::memory_order_acquire)}.parts();
  wait_until_done(s, begun);
  stop_if_requested();
  return begun;
}

void Team::wait_until_done(State* s, std::int64_t parts) {
  const auto finished = [&] { return s->done.load(std::memory_order_seq_cst) == parts; };
  if (spin(s->spin, finished)) return;
  // A worker is in the middle of its part, on its core or off it. Sleep, rather than burn the core that it may be waiting for.
  constexpr std::chrono::milliseconds kAsk{25};
  s->caller_waits.store(true, std::memory_order_seq_cst);
  std::unique_lock<std::mutex> guard(s->mutex);
  while (!s->finished.wait_for(guard, kAsk, finished)) {
    guard.unlock();
    stop_requested();  // tells the workers; what they are at is still theirs
    if (s->generation != fork_generation.load(std::memory_order_relaxed))
      throw Error("this process was forked in the middle of a call: its threads are the parent's");
    guard.lock();
  }
  s->caller_waits.store(false, std::memory_order_relaxed);
}

void Team::work(State* state, int thread) {
  const auto open = [state] {
    return state->stop.load(std::memory_order_relaxed) || Ticket{state->ticket.load(std::memory_order_acquire)}.open();
  };
  for (;;) {
    if (!spin(state->spin, open)) {
      std::unique_lock<std::mutex> guard(state->mutex);
      state->sleepers.fetch_add(1, std::memory_order_seq_cst);
      state->wake.wait(guard, [&] {
        return state->stop.load(std::memory_order_relaxed) || Ticket{state->ticket.load(std::memory_order_seq_cst)}.open();
      });
      state->sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
    if (state->stop.load(std::memory_order_relaxed)) return;
    drain(state, thread);
  }
}

}  // namespace aerogel
