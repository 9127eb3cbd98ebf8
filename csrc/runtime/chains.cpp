#include "runtime/chains.h"

#include <algorithm>

#include "runtime/packed_linear.h"
#include "runtime/plan.h"

namespace aerogel {
namespace {

// Tokens of a block: whole tiles of every kernel, and few enough that what is 1536 wide stays in L2. With 32,
// MiniLM at 1x128 and 1x256 takes 0-5 % longer (Zen 3, two threads).
constexpr std::int64_t kBlockTokens = 64;
// With fewer tokens a thread, kernels reuse what they load of the weights too little. MiniLM, 8 tokens on two threads of Zen 3: .94
// to 1.19 times as fast as a cut by output rows; more threads were not timed.
constexpr std::int64_t kLeastTokens = 4;
// The same for weights that come from memory, so that each thread reads all of them. Not timed.
constexpr std::int64_t kLargeWeights = 8 << 20, kLeastTokensOfLarge = 32;
// A block above this many multiplications is a long time for those who wait for their turn: see linear_run.cpp.
constexpr std::int64_t kMostBlockWork = 1'000'000'000;

bool goes_by_rows(const Step& step) { return step.op->result().rows == Rows::tokens && step.op->by_rows(); }

}  // namespace

std::vector<Chain> chains_of(const std::vector<Step>& steps) {
  std::vector<Chain> chains;
  bool open = false;
  for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
    const bool goes_on = goes_by_rows(steps[i]);
    if (!goes_on || !open) chains.push_back({i, i});
    open = goes_on;
    Chain& chain = chains.back();
    chain.end = i + 1;
    if (const PackedLinear* weight = steps[i].op->weight()) {
      chain.row_work += weight->nonzeros();
      chain.weight_bytes += static_cast<std::int64_t>(weight->form(kAnyRows).weight->bytes());
    }
  }
  return chains;
}

std::int64_t TokenBlocks::begin(std::int64_t block) const {
  const std::int64_t groups = (tokens + group - 1) / group;
  return std::min(tokens, groups * block / count * group);
}

TokenBlocks blocks_of(const Chain& chain, std::int64_t tokens, std::int64_t threads) {
  const TokenBlocks none{tokens, 0, 1};
  const std::int64_t least = chain.weight_bytes > kLargeWeights ? kLeastTokensOfLarge : kLeastTokens;
  if (chain.end - chain.begin == 1 || threads == 1 || tokens < least * threads) return none;
  // As many blocks for every thread.
  const std::int64_t count = std::max<std::int64_t>(1, tokens / (kBlockTokens * threads)) * threads;
  // Kernels for many tokens have tiles of 16 or 32.
  const std::int64_t group = tokens / count >= 24 ? 16 : 1;
  if ((tokens / count + group) * chain.row_work > kMostBlockWork) return none;
  return {tokens, count, group};
}

}  // namespace aerogel
