#include "files/files.h"

#include <cerrno>
#include <system_error>

#include "bindings/bindings.h"
#include "files/crc32c.h"

namespace aerogel {
namespace {

// Calls `work` without the GIL; a std::system_error is Python's OSError.
template <class Work>
auto with_os_errors(Work work) {
  int error = 0;
  {
    py::gil_scoped_release release;
    try {
      return work();
    } catch (const std::system_error& caught) {
      error = caught.code().value();
    }
  }
  errno = error;
  PyErr_SetFromErrno(PyExc_OSError);
  throw py::error_already_set();
}

py::tuple read(int file, std::uint64_t offset, py::array& out, std::optional<std::uint32_t> crc) {
  const Array<std::uint8_t> checked(out, "out", 1);
  auto* bytes = static_cast<std::uint8_t*>(out.mutable_data());
  const auto size = static_cast<std::size_t>(checked.size());
  const std::size_t count = with_os_errors([&] { return read_at(file, offset, bytes, size, crc ? &*crc : nullptr); });
  return py::make_tuple(count, crc);
}

std::uint32_t checksum_of(const py::buffer& data, std::uint32_t crc, const std::optional<std::string>& isa) {
  const Isa chosen = isa ? isa_from_name(*isa) : active_isa();
  if (!isa_supported(chosen)) throw IsaError("instruction set '" + *isa + "' is not supported by this CPU");
  Py_buffer view;
  if (PyObject_GetBuffer(data.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  {
    py::gil_scoped_release release;
    crc = crc32c(crc, static_cast<const std::uint8_t*>(view.buf), static_cast<std::size_t>(view.len), chosen);
  }
  PyBuffer_Release(&view);
  return crc;
}

}  // namespace

void bind_files(py::module_& module) {
  module.def("read_at", &read, py::arg("file"), py::arg("offset"), py::arg("out"), py::arg("crc") = py::none(),
             "Fills out, uint8 [bytes], from `offset` of an open file: (bytes read, fewer only where the file ends; the CRC-32C `crc` "
             "carried on over them). Raises OSError.");
  module.def("crc32c", &checksum_of, py::arg("data"), py::arg("crc") = 0, py::arg("isa") = py::none(),
             "The CRC-32C of what `crc` is that of, followed by `data`: anything with contiguous bytes.");
  module.def("exchange_names", [](const std::string& a, const std::string& b) {
    return with_os_errors([&] { return exchange_names(a.c_str(), b.c_str()); });
  }, py::arg("a"), py::arg("b"),
     "Lets two names take each other's place in one step; False where the system cannot. Raises OSError.");
}

}  // namespace aerogel
