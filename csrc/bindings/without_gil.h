// A call into the engine: without the GIL, and ended early by Ctrl-C.
#pragma once

#include <pybind11/pybind11.h>

#include <type_traits>

#include "base/stop.h"

namespace aerogel {

// Whether a handler of a signal has raised an exception, which is then set. Takes the GIL.
bool signal_raised();

// f() without the GIL. On Python's main thread the handlers of signals run meanwhile, as they do between two lines of Python: what
// one raises (KeyboardInterrupt) ends f early and comes out of here, whatever f said.
template <class F>
auto without_gil(const F& f) {
  const StopScope scope(&signal_raised);
  try {
    if constexpr (std::is_void_v<decltype(f())>) {
      {
        const pybind11::gil_scoped_release release;
        f();
      }
      if (scope.requested()) throw Stopped();
    } else {
      auto result = [&] {
        const pybind11::gil_scoped_release release;
        return f();
      }();
      if (scope.requested()) throw Stopped();
      return result;
    }
  } catch (...) {
    if (scope.requested()) throw pybind11::error_already_set();
    throw;
  }
}

}  // namespace aerogel
