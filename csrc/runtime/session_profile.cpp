// What each step of a forward pass takes.
#include <chrono>
#include <numeric>

#include "runtime/chain_run.h"
#include "runtime/session.h"

namespace aerogel {

void Session::profile(bool on) {
  profile_ = on;
  timings_.clear();
}

void Session::run_profiled(const Schedule& schedule, const Frame& frame) {
  if (timings_.size() != schedule.steps.size() || timings_[0].step != &schedule.steps[0]) {
    timings_.clear();
    for (const Step& step : schedule.steps) timings_.push_back({&step, 0, 0.0});
  }
  const Crew crew{&plan_->team(), 0, &shares_};
  const auto seconds_of = [](const auto& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const Chain& chain : schedule.chains) {
    const TokenBlocks blocks = blocks_of(chain, frame.tokens, crew.size());
    const auto length = static_cast<std::size_t>(chain.end - chain.begin);
    std::vector<double> busy(blocks.count == 0 ? 0 : length * static_cast<std::size_t>(crew.size()), 0.0);
    const double together = busy.empty() ? 0.0 : seconds_of([&] {
      run_chain(schedule.steps, chain, blocks, frame, crew, plan_->ops(), scratch_, busy.data());
    });
    const double all = std::accumulate(busy.begin(), busy.end(), 0.0);
    for (std::size_t i = 0; i < length; ++i) {
      StepTiming& timing = timings_[static_cast<std::size_t>(chain.begin) + i];
      ++timing.calls;
      double mine = 0;
      for (std::size_t at = i; at < busy.size(); at += length) mine += busy[at];
      timing.seconds += busy.empty() ? seconds_of([&] {
        timing.step->op->run({*timing.step, frame, crew, plan_->ops(), scratch_, workspaces_[0].data()});
      }) : together * mine / all;
    }
  }
}

}  // namespace aerogel
