#include "bindings/bindings.h"

#include <cstring>

namespace aerogel {

std::shared_ptr<const void> keep_alive(py::object object) {
  return std::shared_ptr<const void>(object.release().ptr(), [](const void* pointer) {
    if (!Py_IsInitialized()) return;
    py::gil_scoped_acquire gil;
    Py_DECREF(static_cast<PyObject*>(const_cast<void*>(pointer)));
  });
}

Floats copy_floats(const py::object& array, const std::string& name, py::ssize_t ndim) {
  if (array.is_none()) return nullptr;
  const Array<float> source(py::cast<py::array>(array), name, ndim);
  const auto count = static_cast<std::size_t>(source.array().size());
  auto copy = std::make_shared<AlignedBuffer<float>>(count);
  if (count != 0) std::memcpy(copy->data(), source.data(), count * sizeof(float));
  return copy;
}

bool is_float16(const py::array& array) { return array.dtype().kind() == 'f' && array.dtype().itemsize() == 2; }

const std::uint16_t* float16_codes(const py::array& array, const std::string& name, py::ssize_t ndim) {
  static const std::uint16_t kNothing = 0;
  const Array<std::uint16_t> codes(py::cast<py::array>(array.attr("view")("uint16")), name, ndim);  // the same memory, which `array` owns
  return codes.data() == nullptr ? &kNothing : codes.data();
}

}  // namespace aerogel

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core of aerogel: kernels, packing and the runtime. Use the package aerogel instead.";
  module.attr("__version__") = AEROGEL_VERSION;
  // Bases are registered first: pybind11 tries the last registered translator first.
  const auto base = py::register_exception<aerogel::Error>(module, "AerogelError");
  base.attr("__doc__") = "Anything that aerogel refuses; the subclasses say why.";
  py::register_exception<aerogel::ShapeError>(module, "ShapeError", base).attr("__doc__") = "An array or an op has the wrong shape or dtype.";
  py::register_exception<aerogel::DataError>(module, "DataError", base).attr("__doc__") = "Data that cannot be right: an index out of range, a value that is not finite.";
  py::register_exception<aerogel::IsaError>(module, "IsaError", base).attr("__doc__") = "An instruction set that is unknown or not supported here.";
  aerogel::bind_isa(module);
  aerogel::bind_weight(module);
  aerogel::bind_rotary(module);
  aerogel::bind_program(module);
  aerogel::bind_session(module);
  aerogel::bind_limits(module);
  aerogel::bind_codec(module);
  aerogel::bind_files(module);
  aerogel::bind_sampling(module);
}
