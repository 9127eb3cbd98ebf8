#include "limits/limits.h"

#include "base/cpus.h"
#include "bindings/bindings.h"
#include "bindings/without_gil.h"

namespace aerogel {

void bind_limits(py::module_& module) {
  module.def("limits", [](const std::optional<int>& threads) {
    const int count = threads.value_or(default_threads());
    const Limits found = without_gil([&] { return measure_limits(count); });
    py::dict row;
    row["threads"] = found.threads;
    row["int8_gmacs"] = found.int8_gmacs;
    row["fp32_gmacs"] = found.fp32_gmacs;
    row["l2_gbs"] = found.l2_gbs;
    row["l3_gbs"] = found.l3_gbs;
    row["dram_gbs"] = found.dram_gbs;
    row["l2_bytes"] = found.l2_bytes;
    row["l3_bytes"] = found.l3_bytes;
    return row;
  }, py::arg("threads") = py::none(),
     "The most that this machine does with the instruction set in use: multiply-adds and bytes read, in 1e9 a second.");
  module.def("time_fixed_work", &time_fixed_work, py::call_guard<py::gil_scoped_release>(),
             "Seconds that a fixed amount of arithmetic takes on one thread.");
}

}  // namespace aerogel
