#include "runtime/packed_linear.h"

#include <algorithm>

#include "base/error.h"
#include "linear/fits.h"

namespace aerogel {
namespace {

const LinearKernel* kernel_for(const WeightSource& source, const std::string& format, Isa isa) {
  const LinearKernel* kernel = find_linear(format, isa);
  if (kernel == nullptr) {
    std::string known = "auto";
    for (const LinearKernel& row : linear_kernels())
      if (row.isa == Isa::scalar) known += std::string(", ") + row.format;
    throw Error("unknown weight format '" + format + "': expected one of " + known);
  }
  const std::string why = refusal(format, kernel->quantized_x, source);
  if (!why.empty()) throw Error("weight format '" + format + "' " + why);
  return kernel;
}

}  // namespace

std::size_t PackedLinear::bytes() const {
  std::size_t sum = 0;
  for (const LinearForm& form : forms_) sum += form.weight->bytes();
  return sum;
}

std::size_t PackedLinear::scratch_bytes(std::int64_t max_rows) const {
  std::size_t most = 0;
  for (const LinearForm& form : forms_) {
    most = std::max(most, form.weight->scratch_bytes(std::min(max_rows, form.max_rows)));
    if (form.max_rows >= max_rows) break;  // the later forms serve more rows
  }
  return most;
}

PackedLinear pack_linear(const WeightSource& source, const std::vector<FormChoice>& choices, Isa isa) {
  if (source.n() == 0) throw ShapeError("weight: nothing was added to the source");
  if (choices.empty()) throw Error("weight: expected at least one format, got none");
  std::int64_t served = 0;
  for (const FormChoice& choice : choices) {
    if (choice.max_rows <= served) throw Error("weight formats: expected rising numbers of rows, each served by one format");
    served = choice.max_rows;
  }
  if (served != kAnyRows) throw Error("weight formats: expected the last one to serve any number of rows");
  std::vector<LinearForm> forms;
  for (const FormChoice& choice : choices) {
    const LinearKernel* kernel = kernel_for(source, choice.format, isa);
    forms.push_back({std::shared_ptr<const Weight>(kernel->pack(source)), kernel, choice.max_rows});
  }
  return PackedLinear(std::move(forms), source.numbers());
}

std::vector<FormChoice> auto_forms(const WeightSource& source, Isa isa) {
  // As bf16: a mask saves bytes from half the weights on; from 0.75 on skipping multiplications gains more.
  if (source.bf16()) return {{source.sparsity() >= 0.75 ? "csr_f32" : source.sparsity() >= 0.5 ? "masked_bf16" : "dense_bf16"}};
  if (source.f16()) return {{source.sparsity() >= 0.75 ? "csr_f32" : "dense_f16"}};
  if (source.blocks()) return {{"grouped_qn"}};
  if (source.grouped() && refusal("grouped_q8", true, source).empty()) return {{"grouped_q8"}};
  const std::string dense = source.quantized() ? "dense_q8" : "dense_f32";
  // neondot: modelled, half of the vector operations of a sparse product gather.
  const double crossover = !source.quantized() ? 0.6 : isa == Isa::neondot ? 0.7 : 0.5;
  const LinearKernel* rival = find_linear(dense, isa);
  // On AVX2 integers of 4 bits are multiplied faster than int8, and codebooks stream faster.
  if (source.four_bit() && source.sparsity() < crossover && rival->isa == Isa::avx2 && refusal("dense_q4", true, source).empty())
    return {{"dense_q4"}};
  if (source.sparsity() < crossover) return {{dense}};
  // A scalar sparse kernel beside a vector dense one is no gain.
  const auto serves = [&](const char* format) {
    const LinearKernel* kernel = find_linear(format, isa);
    return kernel != nullptr && kernel->isa == rival->isa;
  };
  if (!source.quantized()) return {{serves("csr_f32") ? "csr_f32" : dense}};
  if (!serves("gathered_q8")) return {{dense}};
  // Tokens on the lanes win from about this many on.
  constexpr std::int64_t kFewRows = 24;
  if (serves("quads_q8")) return {{"gathered_q8", kFewRows}, {"quads_q8"}};
  return {{"gathered_q8"}};
}

}  // namespace aerogel
