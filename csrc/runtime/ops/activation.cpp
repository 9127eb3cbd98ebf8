#include "runtime/ops/activation.h"

#include <utility>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

void (*Ops::* kernel_of(const std::string& kind))(const ActivationTask&) {
  static const std::pair<const char*, void (*Ops::*)(const ActivationTask&)> kKinds[] = {{"gelu", &Ops::gelu_erf},
                                                                                         {"gelu_tanh", &Ops::gelu_tanh},
                                                                                         {"relu", &Ops::relu},
                                                                                         {"tanh", &Ops::tanh_act},
                                                                                         {"silu", &Ops::silu}};
  std::string known;
  for (const auto& [name, kernel] : kKinds) {
    if (kind == name) return kernel;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  throw Error("unknown activation '" + kind + "': expected one of " + known);
}

Value half(const Value& in) {
  expect(in.width % 2 == 0, "silu_gate", "an even width (gate and up)", std::to_string(in.width));
  return {in.width / 2, in.rows};
}

}  // namespace

Activation::Activation(const Program& program, int x, const std::string& kind)
    : Activation(kernel_of(kind), kind, x, program.value("activation", x).width, program.value("activation", x)) {}

SiluGate::SiluGate(const Program& program, int x)
    : Activation(&Ops::silu_gate, "silu_gate", x, program.value("silu_gate", x).width, half(program.value("silu_gate", x))) {}

void Activation::run(const Work& work) const {
  const auto kernel = work.ops.*kernel_;
  const float* const x = work.x();
  work.over_rows(work.rows(), in_width_, [&](std::int64_t begin, std::int64_t count, int thread) {
    ActivationTask task{};
    task.x = x + begin * in_width_;
    task.ldx = in_width_;
    task.rows = count;
    task.width = result().width;
    work.write(task, begin, thread);
    kernel(task);
  });
}

}  // namespace aerogel
