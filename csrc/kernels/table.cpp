#include "kernels/table.h"

#include <initializer_list>
#include <utility>

#include "base/error.h"

namespace aerogel {

// Declarations of linear kernels.
#define LINEAR(format, isa, features, x, tile)                               \
  std::unique_ptr<Weight> pack_##format##_##isa(const WeightSource& source); \
  void run_##format##_##isa(const LinearTask& task);
#include "kernels/kernels.inc"
#undef LINEAR

// ON_<isa>(text): the text, where kernels of that instruction set are compiled.
#define ON_scalar(text) text
#if defined(__x86_64__)
#define ON_avx2(text) text
#else
#define ON_avx2(text)
#endif
#if AEROGEL_AVX512VNNI
#define ON_avx512vnni(text) text
#else
#define ON_avx512vnni(text)
#endif
#if AEROGEL_AVXVNNI
#define ON_avxvnni(text) text
#else
#define ON_avxvnni(text)
#endif
#if defined(__aarch64__)
#define ON_neon(text) text
#else
#define ON_neon(text)
#endif
#if AEROGEL_NEONDOT
#define ON_neondot(text) text
#else
#define ON_neondot(text)
#endif

// EACH(X, op, task, isa, ...): X(op, task, isa) for each of the row's instruction sets, six at most.
#define EACH_1(X, op, task, isa) ON_##isa(X(op, task, isa))
#define EACH_2(X, op, task, isa, ...) ON_##isa(X(op, task, isa)) EACH_1(X, op, task, __VA_ARGS__)
#define EACH_3(X, op, task, isa, ...) ON_##isa(X(op, task, isa)) EACH_2(X, op, task, __VA_ARGS__)
#define EACH_4(X, op, task, isa, ...) ON_##isa(X(op, task, isa)) EACH_3(X, op, task, __VA_ARGS__)
#define EACH_5(X, op, task, isa, ...) ON_##isa(X(op, task, isa)) EACH_4(X, op, task, __VA_ARGS__)
#define EACH_6(X, op, task, isa, ...) ON_##isa(X(op, task, isa)) EACH_5(X, op, task, __VA_ARGS__)
#define EACH_SEVENTH(a, b, c, d, e, f, each, ...) each
#define EACH(X, op, task, ...) \
  EACH_SEVENTH(__VA_ARGS__, EACH_6, EACH_5, EACH_4, EACH_3, EACH_2, EACH_1, )(X, op, task, __VA_ARGS__)

// Declarations of ops.
#define DECLARE(op, task, isa) void op##_##isa(const task&);
#define OP(op, task, ...) EACH(DECLARE, op, task, __VA_ARGS__)
#include "ops/ops.inc"
#undef OP
#undef DECLARE

namespace {

constexpr bool q8 = true;
constexpr bool f32 = false;

template <class Task>
using OpRun = void (*)(const Task&);

// The first kernel, in the order of the chain, that there is.
template <class Task>
OpRun<Task> best(const std::vector<Isa>& chain, std::initializer_list<std::pair<Isa, OpRun<Task>>> kernels) {
  for (Isa candidate : chain)
    for (const auto& [isa, run] : kernels)
      if (isa == candidate && isa_supported(isa)) return run;
  return nullptr;
}

Ops resolve(Isa isa) {
  const std::vector<Isa> chain = isa_chain(isa);
  Ops ops;
#define KERNEL(op, task, isa) {Isa::isa, op##_##isa},
#define OP(op, task, ...) ops.op = best<task>(chain, {EACH(KERNEL, op, task, __VA_ARGS__)});
#include "ops/ops.inc"
#undef OP
#undef KERNEL
  return ops;
}

}  // namespace

bool kernel_available(Isa isa, std::uint32_t features) {
  return isa_supported(isa) && (cpu_features() & features) == features;
}

const std::vector<LinearKernel>& linear_kernels() {
  static const std::vector<LinearKernel> kernels = {
#define LINEAR(format, isa, features, x, tile) {#format, Isa::isa, features, x, tile, pack_##format##_##isa, run_##format##_##isa},
#include "kernels/kernels.inc"
#undef LINEAR
  };
  return kernels;
}

const std::vector<OpKernel>& op_kernels() {
  static const std::vector<OpKernel> kernels = {
#define KERNEL(op, task, isa) {#op, Isa::isa},
#define OP(op, task, ...) EACH(KERNEL, op, task, __VA_ARGS__)
#include "ops/ops.inc"
#undef OP
#undef KERNEL
  };
  return kernels;
}

const LinearKernel* find_linear(const std::string& format, Isa isa) {
  for (Isa candidate : isa_chain(isa)) {
    const LinearKernel* kernel = linear_kernel(format, candidate);
    if (kernel != nullptr && kernel_available(kernel->isa, kernel->features)) return kernel;
  }
  return nullptr;
}

const LinearKernel* linear_kernel(const std::string& format, Isa isa) {
  for (const LinearKernel& kernel : linear_kernels())
    if (kernel.isa == isa && format == kernel.format) return &kernel;
  return nullptr;
}

const Ops& ops_for(Isa isa) {
  static const std::vector<Ops> tables = [] {
    std::vector<Ops> all;
    for (Isa each : {Isa::scalar, Isa::avx2, Isa::avxvnni, Isa::avx512vnni, Isa::neon, Isa::neondot})  // the enum's order
      all.push_back(isa_supported(each) ? resolve(each) : Ops{});
    return all;
  }();
  return tables[static_cast<std::size_t>(isa)];
}

}  // namespace aerogel
