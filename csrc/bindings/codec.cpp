#include "codec/codec.h"

#include <algorithm>

#include "bindings/bindings.h"
#include "bindings/without_gil.h"

namespace aerogel {
namespace {

// The bytes of a blob, which must be uint8 [bytes].
Array<std::uint8_t> blob_of(const std::string& name, const py::array& blob) { return {blob, name, 1}; }

py::object encode(const py::array& tensor) {
  const bool is_signed = tensor.dtype().equal(py::dtype::of<std::int8_t>());
  if (!is_signed && !tensor.dtype().equal(py::dtype::of<std::uint8_t>()))
    throw ShapeError("tensor: expected uint8 or int8, got " + std::string(py::str(tensor.dtype())));
  if ((tensor.flags() & py::array::c_style) == 0) throw ShapeError("tensor: expected a C-contiguous array");
  const std::vector<std::int64_t> shape(tensor.shape(), tensor.shape() + tensor.ndim());
  const auto* data = static_cast<const std::uint8_t*>(tensor.data());
  const std::vector<std::uint8_t> blob =
      without_gil([&] { return encode_bytes(is_signed ? ByteType::i8 : ByteType::u8, shape, data); });
  if (blob.empty()) return py::none();
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(blob.size()), blob.data());
}

py::tuple header(const std::string& name, const py::array& begin, std::uint64_t size) {
  const Array<std::uint8_t> bytes = blob_of(name, begin);
  if (static_cast<std::uint64_t>(bytes.size()) < std::min<std::uint64_t>(size, kMostHeader))
    throw DataError(name + ": expected the first " + std::to_string(kMostHeader) + " bytes, got " + std::to_string(bytes.size()));
  const CodedHeader found = coded_header(name, bytes.data(), size);
  return py::make_tuple(found.dtype == ByteType::i8 ? "I8" : "U8", py::tuple(py::cast(found.shape)));
}

py::array decode(const std::string& name, const py::array& blob, int threads, const std::optional<std::string>& isa) {
  const Isa chosen = isa ? isa_from_name(*isa) : active_isa();
  if (!isa_supported(chosen)) throw IsaError("instruction set '" + *isa + "' is not supported by this CPU");
  const Array<std::uint8_t> bytes = blob_of(name, blob);
  const auto size = static_cast<std::size_t>(bytes.size());
  const CodedHeader found = coded_header(name, bytes.data(), size);
  const py::dtype dtype = found.dtype == ByteType::i8 ? py::dtype::of<std::int8_t>() : py::dtype::of<std::uint8_t>();
  py::array tensor(dtype, std::vector<py::ssize_t>(found.shape.begin(), found.shape.end()));
  auto* out = static_cast<std::uint8_t*>(tensor.mutable_data());
  without_gil([&] { decode_bytes(name, found, bytes.data(), size, out, threads, chosen); });
  return tensor;
}

}  // namespace

void bind_codec(py::module_& module) {
  module.def("encode_bytes", &encode, py::arg("tensor"),
             "The coded form of a uint8 or int8 tensor, uint8 [bytes], or None where it would not be smaller.");
  module.def("coded_header", &header, py::arg("name"), py::arg("begin"), py::arg("size"),
             "(\"U8\" or \"I8\", shape) of a coded tensor of `size` bytes, of which the first 80 are enough.");
  module.def("decode_bytes", &decode, py::arg("name"), py::arg("blob"), py::arg("threads") = 1, py::arg("isa") = py::none(),
             "The tensor that `encode_bytes` coded. Errors are DataError, with `name`.");
}

}  // namespace aerogel
