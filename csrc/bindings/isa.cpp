#include "isa/isa.h"

#include "base/aligned.h"
#include "base/cpus.h"
#include "bindings/bindings.h"
#include "kernels/table.h"

namespace aerogel {
namespace {

// default_threads(), with a word in the log, once, about an OMP_NUM_THREADS that is no number.
int threads_of_environment() {
  static std::string warned;
  std::string ignored;
  const int threads = default_threads(&ignored);
  if (!ignored.empty() && ignored != warned) {
    warned = ignored;
    py::module_::import("logging").attr("getLogger")("aerogel").attr("warning")(
        "OMP_NUM_THREADS: expected a number from 1 to %d, got %r: it is ignored", kMostThreads, ignored);
  }
  return threads;
}

}  // namespace

void bind_isa(py::module_& module) {
  module.def("isa", [] { return isa_name(active_isa()); }, "The instruction set in use; AEROGEL_ISA forces one.");
  module.def("supported_isas", [] {
    std::vector<std::string> names;
    for (Isa isa : supported_isas()) names.emplace_back(isa_name(isa));
    return names;
  }, "The instruction sets that this machine can run, best first.");
  module.def("cpu_name", &cpu_name);
  module.def("compiler", [] { return __VERSION__; }, "The compiler that built this module.");
  module.def("release_memory", &release_memory, py::call_guard<py::gil_scoped_release>(), "Returns what was freed to the system.");
  module.def("usable_cores", [] { return usable_cores(); }, "min(cgroup quota, affinity, physical cores).");
  module.def("default_threads", &threads_of_environment,
             "AEROGEL_THREADS, or else OMP_NUM_THREADS within the usable cores, or else those; AerogelError where the first is no number.");
  module.def("kernels", [] {
    py::list rows;
    const auto add = [&](const char* kind, const char* name, Isa isa, std::uint32_t features) {
      py::dict row;
      row["kind"] = kind;
      row["name"] = name;
      row["isa"] = isa_name(isa);
      row["available"] = kernel_available(isa, features);
      rows.append(std::move(row));
    };
    for (const LinearKernel& kernel : linear_kernels()) add("linear", kernel.format, kernel.isa, kernel.features);
    for (const OpKernel& kernel : op_kernels()) add("op", kernel.op, kernel.isa, kNoFeature);
    return rows;
  }, "Every kernel of this build, best first: kind, name, isa, and whether this CPU can run it.");
  module.def("linear_formats", [] {
    py::list rows;
    for (const LinearKernel& kernel : linear_kernels()) {
      if (kernel.isa != Isa::scalar) continue;  // every format has a scalar kernel, so each is met once
      const LinearKernel* chosen = find_linear(kernel.format, active_isa());
      py::dict row;
      row["format"] = kernel.format;
      row["isa"] = isa_name(chosen->isa);
      row["tile"] = chosen->tile;
      rows.append(std::move(row));
    }
    return rows;
  }, "Every weight format, the instruction set of the kernel that would run it now, and the tokens that it takes together.");
}

}  // namespace aerogel
