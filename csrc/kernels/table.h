// Every kernel of this build, and the choice among them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "isa/isa.h"
#include "linear/linear.h"
#include "linear/weight.h"
#include "ops/ops.h"

namespace aerogel {

struct LinearKernel {
  const char* format;      // "dense_q8"
  Isa isa;
  std::uint32_t features;  // Feature bits needed beyond the ISA
  bool quantized_x;        // takes q8 activations
  int tile;                // tokens that cost as much where there are fewer: see PackedLinear::whole; 1 where that is little
  LinearPack pack;
  LinearRun run;
};

// All ops, one function pointer each, by the name in ops/ops.inc.
struct Ops {
#define OP(op, task, ...) void (*op)(const task&) = nullptr;
#include "ops/ops.inc"
#undef OP
};

struct OpKernel {
  const char* op;
  Isa isa;
};

// Whether this CPU can run a kernel with these needs.
bool kernel_available(Isa isa, std::uint32_t features);

// Every kernel of kernels.inc and ops.inc, in their order; also those this CPU cannot run.
const std::vector<LinearKernel>& linear_kernels();
const std::vector<OpKernel>& op_kernels();

// The best available kernel of `format` when `isa` is in use; null if there is none on this chain.
const LinearKernel* find_linear(const std::string& format, Isa isa);

// The kernel of exactly this format and ISA, available or not; null if there is no such row.
const LinearKernel* linear_kernel(const std::string& format, Isa isa);

// The best available implementation of each op when `isa` is in use. Every pointer is set.
const Ops& ops_for(Isa isa);

}  // namespace aerogel
