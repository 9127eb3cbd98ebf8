#include "bindings/without_gil.h"

namespace aerogel {

// Handlers run on the main thread alone; on others PyErr_CheckSignals does nothing.
bool signal_raised() {
  const PyGILState_STATE gil = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(gil);
  return raised;
}

}  // namespace aerogel
