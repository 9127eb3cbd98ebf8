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
  LinearPack pack;
  LinearRun run;
};

// All ops, one function pointer each, by the name in kernels.inc.
struct Ops {
#define AEROGEL_OPS(X)                                                                              \
  X(quantize, QuantizeTask)                                                                         \
  X(layer_norm, NormTask) X(rms_norm, NormTask)                                                     \
  X(gelu_erf, ActivationTask) X(gelu_tanh, ActivationTask) X(relu, ActivationTask)                  \
  X(tanh_act, ActivationTask) X(silu, ActivationTask) X(silu_gate, ActivationTask)                  \
  X(add, AddTask) X(embed_f32, EmbedTask) X(embed_q8, EmbedTask) X(embed_bf16, EmbedTask)           \
  X(rope, RopeTask) X(attention, AttentionTask) X(mean_pool, PoolTask) X(max_pool, PoolTask)        \
  X(l2_normalize, NormalizeTask)
#define AEROGEL_OP_FIELD(op, task) void (*op)(const task&) = nullptr;
  AEROGEL_OPS(AEROGEL_OP_FIELD)
#undef AEROGEL_OP_FIELD
};

struct OpKernel {
  const char* op;
  Isa isa;
  std::uint32_t features;
};

// Whether this CPU can run a kernel with these needs.
bool kernel_available(Isa isa, std::uint32_t features);

// Rows of kernels.inc, in its order; also those this CPU cannot run.
const std::vector<LinearKernel>& linear_kernels();
const std::vector<OpKernel>& op_kernels();

// The best available kernel of `format` when `isa` is in use; null if there is none on this chain.
const LinearKernel* find_linear(const std::string& format, Isa isa);

// The kernel of exactly this format and ISA, available or not; null if there is no such row.
const LinearKernel* linear_kernel(const std::string& format, Isa isa);

// The best available implementation of each op when `isa` is in use. Every pointer is set.
const Ops& ops_for(Isa isa);

}  // namespace aerogel
