// One linear layer over a team of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "base/stop.h"
#include "base/team.h"
#include "runtime/packed_linear.h"
#include "runtime/scratch.h"
#include "runtime/shares.h"

namespace aerogel {

// Which threads may work on a step: a whole team, or just one thread of it.
struct Crew {
  Team* team;   // null: only thread `thread`, inline
  int thread;
  Shares* shares = nullptr;  // of the team, so that a thread gets the same parts of each job; or null
  int size() const { return team == nullptr ? 1 : team->size(); }

  // body(part, thread) for every part.
  template <class Body>
  void run(std::int64_t parts, const Body& body) const {
    if (team != nullptr && shares != nullptr && parts > 1 && team->size() > 1) {
      shares->deal(parts);
      team->run(parts, [&](std::int64_t, int worker) noexcept { body(shares->take(worker), worker); });
    } else if (team != nullptr) {
      team->run(parts, body);
    } else {
      for (std::int64_t part = 0; part < parts && !stop_requested(); ++part) body(part, thread);
    }
  }

  // f(first row, rows, thread) over all rows. width: elements that a row costs.
  template <class F>
  void over_rows(std::int64_t rows, std::int64_t width, const F& f) const {
    // Rows are cut into parts of about this many elements; below two of them, one thread does it alone.
    // At most so many are a part, as in linears: some milliseconds.
    constexpr std::int64_t kPartElements = 12'000, kMostPartElements = 4'000'000;
    std::int64_t parts = std::min(rows, rows * width / kMostPartElements + 1);
    if (size() > 1)
      parts = std::max(parts, std::clamp<std::int64_t>(rows * width / kPartElements, 1, std::min<std::int64_t>(rows, 4 * size())));
    run(parts, [&](std::int64_t part, int thread_of_part) noexcept {
      const std::int64_t begin = rows * part / parts, end = rows * (part + 1) / parts;
      if (begin < end) f(begin, end - begin, thread_of_part);
    });
  }
};

// Splits `linear` into parts of equal cost, and of some milliseconds at most, and runs them; the last few rows in the form that serves
// few, see PackedLinear::whole. x, x_scale, ldx as in LinearTask.
void run_linear(const PackedLinear& linear, const void* x, const float* x_scale, std::int64_t ldx, std::int64_t m,
                const float* bias, float* y, const Crew& crew, ScratchPool& scratch);

// The team of layers that belong to no model; one a thread count, kept for the life of the process. threads 0: default_threads().
Team& shared_team(int threads);

// Who works on a product that belongs to no model: the shared team, whose turn it is then, or for one thread whoever asks, beside others
// that do so too.
class OnceCrew {
 public:
  explicit OnceCrew(int threads) : team_(threads == 1 ? nullptr : &shared_team(threads)) {
    if (team_ != nullptr) turn_.reset(new Team::Turn(team_->lock()));
  }
  Crew crew() const { return {team_, 0}; }

 private:
  Team* team_;
  std::unique_ptr<Team::Turn> turn_;
};

// A single layer from floats to floats, quantizing x where the kernel wants codes.
void linear_once(const PackedLinear& linear, const float* x, std::int64_t m, const float* bias, float* y, int threads);

}  // namespace aerogel
