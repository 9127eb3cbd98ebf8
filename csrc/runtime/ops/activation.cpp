#include "runtime/ops/activation.h"

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

using Kernel = void (*Ops::*)(const ActivationTask&);

struct Kind {
  const char* name;
  Kernel plain, gated;  // gated: or null
};

constexpr Kind kKinds[] = {{"gelu", &Ops::gelu_erf, &Ops::gelu_erf_gate},
                           {"gelu_tanh", &Ops::gelu_tanh, &Ops::gelu_tanh_gate},
                           {"relu", &Ops::relu, &Ops::relu_gate},
                           {"tanh", &Ops::tanh_act, nullptr},
                           {"silu", &Ops::silu, &Ops::silu_gate}};

Kernel kernel_of(const std::string& kind, bool gated) {
  std::string known;
  for (const Kind& each : kKinds) {
    const Kernel kernel = gated ? each.gated : each.plain;
    if (kernel == nullptr) continue;
    if (kind == each.name) return kernel;
    known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  throw Error((gated ? "unknown gate '" : "unknown activation '") + kind + "': expected one of " + known);
}

Value half(const Value& in) {
  expect(in.width % 2 == 0, "gate", "an even width (gate and up)", std::to_string(in.width));
  return {in.width / 2, in.rows};
}

}  // namespace

Activation::Activation(const Program& program, int x, const std::string& kind)
    : Activation(kernel_of(kind, false), kind, x, program.value("activation", x).width, program.value("activation", x)) {}

Gate::Gate(const Program& program, int x, const std::string& kind)
    : Activation(kernel_of(kind, true), kind + "_gate", x, program.value("gate", x).width, half(program.value("gate", x))) {}

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
