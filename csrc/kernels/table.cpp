#include "kernels/table.h"

#include "base/error.h"

namespace aerogel {

// Declarations.
#define LINEAR(format, isa, features, x)                                     \
  std::unique_ptr<Weight> pack_##format##_##isa(const WeightSource& source); \
  void run_##format##_##isa(const LinearTask& task);
#define OP(op, task, isa, features) void op##_##isa(const task&);
#include "kernels/kernels.inc"
#undef LINEAR
#undef OP

namespace {

constexpr bool q8 = true;
constexpr bool f32 = false;

Ops resolve(Isa isa) {
  Ops ops;
  // Rows stand best first, so the first one that fits stays.
  for (Isa candidate : isa_chain(isa)) {
#define LINEAR(format, isa, features, x)
#define OP(name, task, row_isa, features)                                                                    \
  if (Isa::row_isa == candidate && ops.name == nullptr && kernel_available(Isa::row_isa, features)) \
    ops.name = name##_##row_isa;
#include "kernels/kernels.inc"
#undef LINEAR
#undef OP
  }
  return ops;
}

}  // namespace

bool kernel_available(Isa isa, std::uint32_t features) {
  return isa_supported(isa) && (cpu_features() & features) == features;
}

const std::vector<LinearKernel>& linear_kernels() {
  static const std::vector<LinearKernel> kernels = {
#define LINEAR(format, isa, features, x) {#format, Isa::isa, features, x, pack_##format##_##isa, run_##format##_##isa},
#define OP(op, task, isa, features)
#include "kernels/kernels.inc"
#undef LINEAR
#undef OP
  };
  return kernels;
}

const std::vector<OpKernel>& op_kernels() {
  static const std::vector<OpKernel> kernels = {
#define LINEAR(format, isa, features, x)
#define OP(op, task, isa, features) {#op, Isa::isa, features},
#include "kernels/kernels.inc"
#undef LINEAR
#undef OP
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
    for (Isa each : {Isa::scalar, Isa::avx2, Isa::avx512vnni, Isa::neon})
      all.push_back(isa_supported(each) ? resolve(each) : Ops{});
    return all;
  }();
  return tables[static_cast<std::size_t>(isa)];
}

std::string auto_format(const WeightSource& source, Isa isa) {
  // As bf16: a mask saves bytes from half the weights on; from 0.75 on skipping multiplications gains more.
  if (source.bf16()) return source.sparsity() >= 0.75 ? "csr_f32" : source.sparsity() >= 0.5 ? "masked_bf16" : "dense_bf16";
  const std::string dense = source.quantized() ? "dense_q8" : "dense_f32";
  const std::string sparse = source.quantized() ? "gathered_q8" : "csr_f32";
  const double crossover = source.quantized() ? 0.5 : 0.6;
  const LinearKernel* kernel = find_linear(sparse, isa);
  // A scalar sparse kernel beside a vector dense one is no gain.
  const LinearKernel* rival = find_linear(dense, isa);
  const bool same_isa = kernel != nullptr && (rival == nullptr || kernel->isa == rival->isa);
  return same_isa && source.sparsity() >= crossover ? sparse : dense;
}

}  // namespace aerogel
