// What the binding files share. One file per class; each binding checks its arrays, releases the GIL, calls, returns.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/packed_linear.h"
#include "runtime/program.h"

namespace py = pybind11;

namespace aerogel {

void bind_isa(py::module_& module);
void bind_weight(py::module_& module);
void bind_rotary(py::module_& module);
void bind_program(py::module_& module);
void bind_session(py::module_& module);
void bind_limits(py::module_& module);
void bind_codec(py::module_& module);
void bind_files(py::module_& module);
void bind_sampling(py::module_& module);

// A C-contiguous array of exactly T and `ndim` dimensions. No silent conversion: another dtype or layout is an error.
template <class T>
class Array {
 public:
  Array(const py::array& array, const std::string& name, py::ssize_t ndim) : array_(array) {
    const py::dtype wanted = py::dtype::of<T>();
    if (!array.dtype().is(wanted) && !array.dtype().equal(wanted))
      throw ShapeError(name + ": expected " + std::string(py::str(wanted)) + ", got " + std::string(py::str(array.dtype())));
    if (array.ndim() != ndim)
      throw ShapeError(name + ": expected " + std::to_string(ndim) + " dimensions, got " + std::to_string(array.ndim()));
    constexpr int kNeeded = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & kNeeded) != kNeeded) throw ShapeError(name + ": expected a C-contiguous, aligned array");
  }
  const T* data() const { return static_cast<const T*>(array_.data()); }
  std::int64_t size(py::ssize_t axis = 0) const { return array_.shape(axis); }
  void expect(py::ssize_t axis, std::int64_t length, const std::string& name) const {
    if (size(axis) != length)
      throw ShapeError(name + ": expected " + std::to_string(length) + " along axis " + std::to_string(axis) + ", got " +
                       std::to_string(size(axis)));
  }
  const py::array& array() const { return array_; }

 private:
  py::array array_;
};

// Whether the elements are IEEE half precision, for which C++ has no type.
bool is_float16(const py::array& array);

// The codes of such an array; an empty one may have no address, but what is returned is never null.
const std::uint16_t* float16_codes(const py::array& array, const std::string& name, py::ssize_t ndim);

// A Python object kept alive by C++ that may be dropped on any thread.
std::shared_ptr<const void> keep_alive(py::object object);

// A copy of a float array, or null for None.
Floats copy_floats(const py::object& array, const std::string& name, py::ssize_t ndim);

// Weights as Python holds them: packed, with what they were packed from.
struct PyWeight {
  PackedLinear packed;
};

// One dict a form.
py::list describe_forms(const PackedLinear& linear);

}  // namespace aerogel
