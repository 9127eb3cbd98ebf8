// Chains: runs of steps that each thread takes its own tokens through alone.
//
// Where every row of a step's result depends on the same row of what it reads only (norms, linears, activations; not attention), the
// next such step need not wait for other threads. So a team hands out blocks of tokens instead of parts of each step: a block goes
// through the whole chain while it is in its core's cache, and there are two hand-offs a layer instead of some eight. Kernels see the
// same rows whoever takes them, so the results are the same bit for bit.
#pragma once

#include <cstdint>
#include <vector>

namespace aerogel {

struct Step;

// Steps [begin, end) of a schedule.
struct Chain {
  int begin, end;
  std::int64_t row_work = 0;       // multiplications of its linears, for one token
  std::int64_t weight_bytes = 0;   // of its linears
};

// All steps, in order: those that go together, and each other one alone.
std::vector<Chain> chains_of(const std::vector<Step>& steps);

// How a team cuts a frame's tokens: blocks of about equal size, each of whole groups of tokens, but for the last.
struct TokenBlocks {
  std::int64_t tokens, count, group;
  std::int64_t begin(std::int64_t block) const;
};

// No blocks (count 0) where the team had better share each step of the chain.
TokenBlocks blocks_of(const Chain& chain, std::int64_t tokens, std::int64_t threads);

}  // namespace aerogel
