#include "runtime/chain_run.h"

#include <chrono>

namespace aerogel {

void run_chain(const std::vector<Step>& steps, const Chain& chain, const TokenBlocks& blocks, const Frame& frame, const Crew& crew,
               const Ops& ops, ScratchPool& scratch, double* busy) {
  using Clock = std::chrono::steady_clock;
  crew.run(blocks.count, [&](std::int64_t block, int thread) noexcept {
    const std::int64_t first = blocks.begin(block), count = blocks.begin(block + 1) - first;
    if (count == 0) return;
    const Crew alone{nullptr, thread};
    for (int i = chain.begin; i < chain.end; ++i) {
      const Clock::time_point start = busy == nullptr ? Clock::time_point() : Clock::now();
      steps[i].op->run({steps[i], frame, alone, ops, scratch, nullptr, first, count});
      if (busy != nullptr)
        busy[thread * (chain.end - chain.begin) + i - chain.begin] += std::chrono::duration<double>(Clock::now() - start).count();
    }
  });
}

}  // namespace aerogel
