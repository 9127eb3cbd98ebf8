// Running a chain (chains.h).
#pragma once

#include <vector>

#include "runtime/chains.h"
#include "runtime/work.h"

namespace aerogel {

// The threads of `crew` take blocks of the frame's tokens through the chain's steps. busy: null, or [threads, steps of the chain] of
// seconds, to which each thread adds what its steps take.
void run_chain(const std::vector<Step>& steps, const Chain& chain, const TokenBlocks& blocks, const Frame& frame, const Crew& crew,
               const Ops& ops, ScratchPool& scratch, double* busy = nullptr);

}  // namespace aerogel
