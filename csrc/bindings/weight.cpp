#include "linear/weight.h"

#include "bindings/bindings.h"
#include "linear/csr_f32/from_arrays.h"
#include "runtime/linear_run.h"

namespace aerogel {
namespace {

// The elements if they are of type T, else null. An empty array may have no address; it must still say what it is.
template <class T>
const T* elements_or_null(const py::array& values) {
  static const T kNothing{};
  if (!values.dtype().is(py::dtype::of<T>()) && !values.dtype().equal(py::dtype::of<T>())) return nullptr;
  return values.data() == nullptr ? &kNothing : static_cast<const T*>(values.data());
}

void add_part(WeightSource& source, const std::string& name, WeightSource::Part part, const py::array& values,
              py::ssize_t ndim, const py::object& scale) {
  part.q8 = elements_or_null<std::int8_t>(values);
  part.bf16 = elements_or_null<std::uint16_t>(values);
  if (part.q8 != nullptr) {
    (void)Array<std::int8_t>(values, name, ndim);
    if (scale.is_none()) throw DataError(name + ": int8 codes need a scale per row");
    const Array<float> scales(py::cast<py::array>(scale), name + " scale", 1);
    scales.expect(0, part.rows, name + " scale");
    part.scale = scales.data();
  } else if (part.bf16 != nullptr) {
    (void)Array<std::uint16_t>(values, name, ndim);
    if (!scale.is_none()) throw DataError(name + ": bf16 values take no scale");
  } else {
    (void)Array<float>(values, name, ndim);
    part.f32 = elements_or_null<float>(values);
    if (!scale.is_none()) throw DataError(name + ": float values take no scale");
  }
  const auto count = static_cast<std::int64_t>(values.size());
  py::gil_scoped_release release;
  source.add(name, std::move(part), count);
}

void add_dense(WeightSource& source, const std::string& name, const py::array& values, const py::object& scale) {
  if (values.ndim() != 2)
    throw ShapeError(name + ": expected 2 dimensions, got " + std::to_string(values.ndim()));
  if (values.shape(1) != source.k())
    throw ShapeError(name + ": expected " + shape_text(values.shape(0), source.k()) + ", got " +
                     shape_text(values.shape(0), values.shape(1)));
  WeightSource::Part part;
  part.rows = values.shape(0);
  add_part(source, name, std::move(part), values, 2, scale);
}

template <class Index>
PyWeight pack_csr(std::int64_t k, const py::array& indptr, const py::array& indices, const py::array& data) {
  const Array<Index> rows(indptr, "csr: indptr", 1), columns(indices, "csr: indices", 1);
  const Array<float> values(data, "csr: data", 1);
  values.expect(0, columns.size(), "csr: data");
  py::gil_scoped_release release;
  return PyWeight{{csr_f32_from_arrays<Index>("csr", rows.size() - 1, k, rows.data(), columns.data(), values.data(), values.size()),
                   find_linear("csr_f32", active_isa())}};
}

}  // namespace

void bind_weight(py::module_& module) {
  py::class_<WeightSource>(module, "WeightSource",
                           "Canonical weights w[N,K], stacked part by part along N. Borrows its arrays until it is packed.")
      .def(py::init<std::int64_t>(), py::arg("k"))
      .def("add_dense", [](WeightSource& self, const std::string& name, const py::array& values) {
        add_dense(self, name, values, py::none());
      }, py::arg("name"), py::arg("values"), py::keep_alive<1, 3>(), "float32 [N, K], or uint16 [N, K] that are bf16.")
      .def("add_dense_q8", &add_dense, py::arg("name"), py::arg("codes"), py::arg("scale"), py::keep_alive<1, 3>(),
           py::keep_alive<1, 4>(), "int8 [N, K] and float32 [N].")
      .def("add_bitmask", [](WeightSource& self, const std::string& name, std::int64_t rows, const py::array& mask,
                             const py::array& values, const py::object& scale) {
        const Array<std::uint8_t> bits(mask, name + " mask", 2);
        bits.expect(0, rows, name + " mask");
        bits.expect(1, (self.k() + 7) / 8, name + " mask");
        WeightSource::Part part;
        part.rows = rows;
        part.mask = bits.data();
        add_part(self, name, std::move(part), values, 1, scale);
      }, py::arg("name"), py::arg("rows"), py::arg("mask"), py::arg("values"), py::arg("scale") = py::none(),
           py::keep_alive<1, 4>(), py::keep_alive<1, 5>(), py::keep_alive<1, 6>(),
           "uint8 [N, ceil(K/8)], least significant bit first; the nonzeros row by row, float32, uint16 (bf16) or int8; float32 [N] for int8.")
      .def_property_readonly("n", &WeightSource::n)
      .def_property_readonly("k", &WeightSource::k)
      .def_property_readonly("sparsity", &WeightSource::sparsity)
      .def_property_readonly("quantized", &WeightSource::quantized)
      .def_property_readonly("bf16", &WeightSource::bf16);

  py::class_<PyWeight>(module, "Weight", "Weights packed for a kernel. Immutable.")
      .def_property_readonly("format", [](const PyWeight& self) { return self.packed.kernel->format; })
      .def_property_readonly("isa", [](const PyWeight& self) { return isa_name(self.packed.kernel->isa); })
      .def_property_readonly("shape", [](const PyWeight& self) { return py::make_tuple(self.packed.weight->n(), self.packed.weight->k()); })
      .def_property_readonly("nbytes", [](const PyWeight& self) { return self.packed.weight->bytes(); })
      .def_property_readonly("nonzeros", [](const PyWeight& self) { return self.packed.weight->nonzeros(); })
      .def_property_readonly("sparsity", [](const PyWeight& self) {
        return 1.0 - static_cast<double>(self.packed.weight->nonzeros()) /
                         (static_cast<double>(self.packed.weight->n()) * static_cast<double>(self.packed.weight->k()));
      })
      .def("row", [](const PyWeight& self, std::int64_t n) {
        if (n < 0 || n >= self.packed.weight->n())
          throw ShapeError("row: expected [0, " + std::to_string(self.packed.weight->n()) + "), got " + std::to_string(n));
        py::array_t<float> row(self.packed.weight->k());
        self.packed.weight->row_f32(n, row.mutable_data());
        return row;
      }, py::arg("n"), "Row n as float32 [K].");

  module.def("pack", [](const WeightSource& source, const std::string& format, const std::optional<std::string>& isa) {
    const Isa chosen = isa ? isa_from_name(*isa) : active_isa();
    if (!isa_supported(chosen)) throw IsaError("instruction set '" + *isa + "' is not supported by this CPU");
    py::gil_scoped_release release;
    return PyWeight{pack_linear(source, format, chosen)};
  }, py::arg("source"), py::arg("format") = "auto", py::arg("isa") = py::none());

  module.def("pack_csr", [](std::int64_t k, const py::array& indptr, const py::array& indices, const py::array& data) {
    return indptr.dtype().equal(py::dtype::of<std::int32_t>()) ? pack_csr<std::int32_t>(k, indptr, indices, data)
                                                               : pack_csr<std::int64_t>(k, indptr, indices, data);
  }, py::arg("k"), py::arg("indptr"), py::arg("indices"), py::arg("data"),
     "A csr_f32 Weight from the arrays of a compressed-sparse-row matrix: indices both int32 or both int64, data float32.");

  module.def("linear", [](const PyWeight& weight, const py::array& x, const py::object& bias, int threads) {
    const Array<float> in(x, "x", 2);
    const std::int64_t m = in.size(0), n = weight.packed.weight->n();
    if (in.size(1) != weight.packed.weight->k())
      throw ShapeError("x: expected " + shape_text(m, weight.packed.weight->k()) + ", got " + shape_text(m, in.size(1)));
    const Floats offset = copy_floats(bias, "bias", 1);
    if (offset != nullptr && static_cast<std::int64_t>(offset->size()) != n)
      throw ShapeError("bias: expected [" + std::to_string(n) + "], got [" + std::to_string(offset->size()) + "]");
    py::array_t<float> y({m, n});
    if (m == 0) return y;
    float* out = y.mutable_data();
    py::gil_scoped_release release;
    linear_once(weight.packed, in.data(), m, offset == nullptr ? nullptr : offset->data(), out, threads);
    return y;
  }, py::arg("weight"), py::arg("x"), py::arg("bias") = py::none(), py::arg("threads") = 1,
     "y [M, N] = x [M, K] w^T + bias, float32. int8 weights quantize x per row.");
}

}  // namespace aerogel
