#include "linear/weight.h"

#include "bindings/bindings.h"
#include "bindings/without_gil.h"
#include "linear/csr_f32/from_arrays.h"
#include "linear/fits.h"
#include "linear/pattern.h"
#include "linear/source_q4.h"
#include "runtime/linear_run.h"
#include "runtime/linear_time.h"
#include "runtime/sampled_run.h"

namespace aerogel {
namespace {

// The elements if they are of type T, else null. An empty array may have no address; it must still say what it is.
template <class T>
const T* elements_or_null(const py::array& values) {
  static const T kNothing{};
  if (!values.dtype().is(py::dtype::of<T>()) && !values.dtype().equal(py::dtype::of<T>())) return nullptr;
  return values.data() == nullptr ? &kNothing : static_cast<const T*>(values.data());
}

// The elements of an array [rows] or, by_group, [rows, groups]; null for None.
template <class T>
const T* per_group(const WeightSource& source, const WeightSource::Part& part, const std::string& name, const py::object& values, bool by_group) {
  if (values.is_none()) return nullptr;
  const Array<T> array(py::cast<py::array>(values), name, by_group ? 2 : 1);
  array.expect(0, part.rows, name);
  if (by_group) array.expect(1, part.group > 0 ? (source.k() + part.group - 1) / part.group : 1, name);
  return array.data();
}

void add_part(WeightSource& source, const std::string& name, WeightSource::Part part, const py::array& values,
              py::ssize_t ndim, const py::object& scale, std::int64_t group) {
  part.q8 = elements_or_null<std::int8_t>(values);
  part.bf16 = elements_or_null<std::uint16_t>(values);
  if (part.q8 != nullptr) {
    (void)Array<std::int8_t>(values, name, ndim);
    if (scale.is_none()) throw DataError(name + ": int8 codes need a scale per row");
    part.group = group;
    part.scale = per_group<float>(source, part, name + " scale", scale, group != 0);
  } else if (part.bf16 != nullptr) {
    (void)Array<std::uint16_t>(values, name, ndim);
    if (!scale.is_none()) throw DataError(name + ": bf16 values take no scale");
  } else if (is_float16(values)) {
    part.f16 = float16_codes(values, name, ndim);
    if (!scale.is_none()) throw DataError(name + ": float16 values take no scale");
  } else {
    (void)Array<float>(values, name, ndim);
    part.f32 = elements_or_null<float>(values);
    if (!scale.is_none()) throw DataError(name + ": float values take no scale");
  }
  const auto count = static_cast<std::int64_t>(values.size());
  without_gil([&] { source.add(name, std::move(part), count); });
}

const std::uint8_t* mask_of(const WeightSource& source, const std::string& name, std::int64_t rows, const py::array& mask) {
  const Array<std::uint8_t> bits(mask, name + " mask", 2);
  bits.expect(0, rows, name + " mask");
  bits.expect(1, (source.k() + 7) / 8, name + " mask");
  return bits.data();
}

void add_dense(WeightSource& source, const std::string& name, const py::array& values, const py::object& scale, std::int64_t group) {
  if (values.ndim() != 2)
    throw ShapeError(name + ": expected 2 dimensions, got " + std::to_string(values.ndim()));
  if (values.shape(1) != source.k())
    throw ShapeError(name + ": expected " + shape_text(values.shape(0), source.k()) + ", got " +
                     shape_text(values.shape(0), values.shape(1)));
  WeightSource::Part part;
  part.rows = values.shape(0);
  add_part(source, name, std::move(part), values, 2, scale, group);
}

void add_indexed(WeightSource& source, const std::string& name, std::int64_t rows, const py::array& index, int bits,
                 const py::array& levels, const py::array& scale, const py::object& mask, const py::object& multiplier,
                 const py::object& zero, std::int64_t group, const py::object& offset) {
  const Array<std::uint8_t> indices(index, name + " indices", mask.is_none() ? 2 : 1);
  const Array<std::int8_t> table(levels, name + " levels", 1);
  WeightSource::Part part;
  part.rows = rows;
  part.index = elements_or_null<std::uint8_t>(index);
  part.index_bits = bits;
  part.levels.assign(table.data(), table.data() + table.size());
  part.group = group;
  part.scale = per_group<float>(source, part, name + " scale", scale, false);
  part.multiplier = per_group<std::uint8_t>(source, part, name + " multiplier", multiplier, true);
  part.zero = per_group<std::int8_t>(source, part, name + " zero", zero, true);
  part.offset = per_group<std::int8_t>(source, part, name + " offset", offset, true);
  if (!mask.is_none()) part.mask = mask_of(source, name, rows, py::cast<py::array>(mask));
  else indices.expect(0, rows, name + " indices");
  const auto count = static_cast<std::int64_t>(index.size());
  without_gil([&] { source.add(name, std::move(part), count); });
}

const BlockType& type_of(const std::string& where, const std::string& name) {
  const BlockType* type = block_type(name);
  if (type == nullptr) throw DataError(where + ": type of blocks: expected one of " + block_type_names() + ", got '" + name + "'");
  return *type;
}

void add_blocks(WeightSource& source, const std::string& name, const py::array& blocks, const std::string& type) {
  const Array<std::uint8_t> bytes(blocks, name + " blocks", 2);
  WeightSource::Part part;
  part.rows = bytes.size(0);
  part.blocks = bytes.data();
  part.block_type = &type_of(name, type);
  const std::int64_t count = bytes.array().size();
  without_gil([&] { source.add(name, std::move(part), count); });
}

py::array_t<float> decode_blocks(const py::array& blocks, const std::string& name) {
  const Array<std::uint8_t> bytes(blocks, "blocks", 2);
  const BlockType& type = type_of("blocks", name);
  const std::int64_t rows = bytes.size(0), count = bytes.size(1) / type.bytes;
  if (bytes.size(1) % type.bytes != 0)
    throw ShapeError("blocks: expected rows of a multiple of " + std::to_string(type.bytes) + " bytes, got " + std::to_string(bytes.size(1)));
  py::array_t<float> out({rows, count * type.columns});
  float* to = out.mutable_data();
  const std::uint8_t* from = bytes.data();
  without_gil([&] {
    for (std::int64_t i = 0; i < rows * count; ++i) decode_block(type, from + i * type.bytes, to + i * type.columns);
  });
  return out;
}

template <class Index>
PyWeight pack_csr(std::int64_t k, const py::array& indptr, const py::array& indices, const py::array& data) {
  const Array<Index> rows(indptr, "csr: indptr", 1), columns(indices, "csr: indices", 1);
  const Array<float> values(data, "csr: data", 1);
  values.expect(0, columns.size(), "csr: data");
  return without_gil([&] {
    LinearForm form;
    form.weight = csr_f32_from_arrays<Index>("csr", rows.size() - 1, k, rows.data(), columns.data(), values.data(), values.size());
    form.kernel = find_linear("csr_f32", active_isa());
    return PyWeight{PackedLinear({std::move(form)}, "float32")};
  });
}

}  // namespace

namespace {

template <class Weights>
py::dict pattern_of(const Weights& weights) {
  const Pattern found = without_gil([&] { return find_pattern(weights); });
  py::dict facts;
  facts["nonzeros"] = found.nonzeros;
  facts["least_in_row"] = found.least_in_row;
  facts["most_in_row"] = found.most_in_row;
  facts["empty_rows"] = found.empty_rows;
  facts["empty_columns"] = found.empty_columns;
  facts["most_in_4"] = found.most_in_4;
  facts["most_in_8"] = found.most_in_8;
  facts["most_in_64"] = found.most_in_64;
  facts["blocks4"] = found.blocks4;
  facts["rows2"] = found.rows2;
  facts["rows4"] = found.rows4;
  return facts;
}

}  // namespace

py::list describe_forms(const PackedLinear& linear) {
  py::list forms;
  for (const LinearForm& form : linear.forms()) {
    py::dict row;
    row["format"] = form.kernel->format;
    row["isa"] = isa_name(form.kernel->isa);
    row["nbytes"] = form.weight->bytes();
    row["max_rows"] = form.max_rows == kAnyRows ? py::object(py::none()) : py::int_(form.max_rows);
    forms.append(std::move(row));
  }
  return forms;
}

void bind_weight(py::module_& module) {
  py::class_<WeightSource>(module, "WeightSource",
                           "Canonical weights w[N,K], stacked part by part along N. Borrows its arrays until it is packed.")
      .def(py::init<std::int64_t>(), py::arg("k"))
      .def("add_dense", [](WeightSource& self, const std::string& name, const py::array& values) {
        add_dense(self, name, values, py::none(), 0);
      }, py::arg("name"), py::arg("values"), py::keep_alive<1, 3>(), "float32 or float16 [N, K], or uint16 [N, K] that are bf16.")
      .def("add_dense_q8", &add_dense, py::arg("name"), py::arg("codes"), py::arg("scale"), py::arg("group") = 0,
           py::keep_alive<1, 3>(), py::keep_alive<1, 4>(), "int8 [N, K] and float32 [N]; [N, ceil(K/group)] where there are groups.")
      .def("add_bitmask", [](WeightSource& self, const std::string& name, std::int64_t rows, const py::array& mask,
                             const py::array& values, const py::object& scale, std::int64_t group) {
        WeightSource::Part part;
        part.rows = rows;
        part.mask = mask_of(self, name, rows, mask);
        add_part(self, name, std::move(part), values, 1, scale, group);
      }, py::arg("name"), py::arg("rows"), py::arg("mask"), py::arg("values"), py::arg("scale") = py::none(), py::arg("group") = 0,
           py::keep_alive<1, 4>(), py::keep_alive<1, 5>(), py::keep_alive<1, 6>(),
           "uint8 [N, ceil(K/8)], least significant bit first; the nonzeros row by row, float32, float16, uint16 (bf16) or int8; float32 [N] for "
           "int8, [N, ceil(K/group)] where there are groups.")
      .def("add_indexed", &add_indexed, py::arg("name"), py::arg("rows"), py::arg("index"), py::arg("bits"), py::arg("levels"),
           py::arg("scale"), py::arg("mask") = py::none(), py::arg("multiplier") = py::none(), py::arg("zero") = py::none(),
           py::arg("group") = 0, py::arg("offset") = py::none(), py::keep_alive<1, 4>(), py::keep_alive<1, 7>(),
           py::keep_alive<1, 8>(), py::keep_alive<1, 9>(), py::keep_alive<1, 10>(), py::keep_alive<1, 12>(),
           "w = ((levels[index] - zero) * multiplier + offset) * scale. index uint8: `bits` an index, least significant first, [N, ceil(K*bits/8)] or, "
           "behind a mask, a vector without gaps; levels int8 [up to 2^bits], scale float32 [N], mask as above, multiplier uint8, zero and "
           "offset int8 [N, ceil(K/group)]; group 0: a row is one.")
      .def("add_blocks", &add_blocks, py::arg("name"), py::arg("blocks"), py::arg("type"), py::keep_alive<1, 3>(),
           "uint8 [N, bytes of a row], blocks of a type as GGUF files have them, \"Q4_K\".")
      .def("spread", [](const WeightSource& self, std::int64_t rows, std::int64_t run) {
        return without_gil([&] { return self.spread(rows, run); });
      }, py::arg("rows"), py::arg("run") = 64, py::keep_alive<0, 1>(),
           "`rows` of the rows, in runs of `run` that lie evenly over all of them; rows is a multiple of run.")
      .def_property_readonly("n", &WeightSource::n)
      .def_property_readonly("k", &WeightSource::k)
      .def_property_readonly("sparsity", &WeightSource::sparsity)
      .def_property_readonly("numbers", &WeightSource::numbers, "\"int8\", \"int8g\" (a scale each group), \"blocks\" (of GGUF), \"bf16\", \"float16\" or \"float32\".")
      .def_property_readonly("four_bit", &WeightSource::four_bit, "Whether all of it is indices of at most 16 levels.")
      .def("holds", [](const WeightSource& self, const std::string& format) {
        const LinearKernel* kernel = linear_kernel(format, Isa::scalar);
        if (kernel == nullptr) throw Error("unknown weight format '" + format + "'");
        return without_gil([&] { return refusal(format, kernel->quantized_x, self).empty(); });
      }, py::arg("format"), "Whether a format can hold these weights.")
      .def_property_readonly("four_bit_integers", [](const WeightSource& self) { return is_linear_q4(self); },
                             "Whether all of it is 4-bit integers, with multipliers and zero points or without, and no codebook.")
      .def("pattern", [](const WeightSource& self) { return pattern_of(self);
      }, "How the zeros lie: nonzeros of rows, of aligned windows of 4, 8 and 64 columns, and 1x4 blocks that are not empty.");

  py::class_<PyWeight>(module, "PackedWeight", "Weights packed for one or two kernels. Immutable.")
      .def_property_readonly("forms", [](const PyWeight& self) { return describe_forms(self.packed); },
                             "One dict a form: format, isa, nbytes, and max_rows, the most rows it serves (None: any number).")
      .def_property_readonly("shape", [](const PyWeight& self) { return py::make_tuple(self.packed.n(), self.packed.k()); })
      .def_property_readonly("nbytes", [](const PyWeight& self) { return self.packed.bytes(); })
      .def_property_readonly("nonzeros", [](const PyWeight& self) { return self.packed.nonzeros(); })
      .def_property_readonly("sparsity", [](const PyWeight& self) {
        return 1.0 - static_cast<double>(self.packed.nonzeros()) /
                         (static_cast<double>(self.packed.n()) * static_cast<double>(self.packed.k()));
      })
      .def("row", [](const PyWeight& self, std::int64_t n) {
        if (n < 0 || n >= self.packed.n())
          throw ShapeError("row: expected [0, " + std::to_string(self.packed.n()) + "), got " + std::to_string(n));
        py::array_t<float> row(self.packed.k());
        self.packed.row_f32(n, row.mutable_data());
        return row;
      }, py::arg("n"), "Row n as float32 [K].")
      .def("pattern", [](const PyWeight& self) { return pattern_of(*self.packed.forms()[0].weight); }, "See WeightSource.pattern.");

  module.def("pack", [](const WeightSource& source, const std::string& format, const std::optional<std::string>& isa) {
    const Isa chosen = isa ? isa_from_name(*isa) : active_isa();
    if (!isa_supported(chosen)) throw IsaError("instruction set '" + *isa + "' is not supported by this CPU");
    return without_gil([&] {
      return PyWeight{pack_linear(source, format == "auto" ? auto_forms(source, chosen) : std::vector<FormChoice>{{format}}, chosen)};
    });
  }, py::arg("source"), py::arg("format") = "auto", py::arg("isa") = py::none(), "\"auto\" goes by the sparsity.");

  module.def("pack", [](const WeightSource& source, const std::vector<std::pair<std::string, std::optional<std::int64_t>>>& formats) {
    std::vector<FormChoice> choices;
    for (const auto& [format, max_rows] : formats) choices.push_back({format, max_rows.value_or(kAnyRows)});
    return without_gil([&] { return PyWeight{pack_linear(source, choices, active_isa())}; });
  }, py::arg("source"), py::arg("formats"),
     "formats: (name, max_rows) by rising max_rows; the last one serves any number of rows, None.");

  module.def("block_types", [] {
    py::dict types;
    for (const BlockType& type : all_block_types()) types[type.name] = py::make_tuple(type.columns, type.bytes);
    return types;
  }, "The types of blocks that run as they are: by ggml's name the columns and bytes of one.");
  module.def("decode_blocks", &decode_blocks, py::arg("blocks"), py::arg("type"),
             "uint8 [N, bytes of a row] as float32 [N, K], the values that ggml gives.");

  module.def("time_linears", [](const std::vector<const PyWeight*>& weights, std::int64_t rows, int threads, int rounds,
                                double seconds, bool evict) {
    std::vector<PackedLinear> candidates;
    for (const PyWeight* weight : weights) {
      if (weight == nullptr) throw Error("time_linears: expected weights, got None");
      candidates.push_back(weight->packed);
    }
    return without_gil([&] { return time_linears(candidates, {rows, threads, rounds, seconds, evict}); });
  }, py::arg("weights"), py::arg("rows"), py::arg("threads") = 0, py::arg("rounds") = 5, py::arg("seconds") = 0.05,
     py::arg("evict") = false,
     "Seconds of each call, [weight][round], the weights taking turns. Without the quantization of the input.");

  module.def("pack_csr", [](std::int64_t k, const py::array& indptr, const py::array& indices, const py::array& data) {
    return indptr.dtype().equal(py::dtype::of<std::int32_t>()) ? pack_csr<std::int32_t>(k, indptr, indices, data)
                                                               : pack_csr<std::int64_t>(k, indptr, indices, data);
  }, py::arg("k"), py::arg("indptr"), py::arg("indices"), py::arg("data"),
     "A csr_f32 PackedWeight from the arrays of a compressed-sparse-row matrix: indices both int32 or both int64, data float32.");

  module.def("linear", [](const PyWeight& weight, const py::array& x, const py::object& bias, int threads) {
    const Array<float> in(x, "x", 2);
    const std::int64_t m = in.size(0), n = weight.packed.n();
    if (in.size(1) != weight.packed.k())
      throw ShapeError("x: expected " + shape_text(m, weight.packed.k()) + ", got " + shape_text(m, in.size(1)));
    const Floats offset = copy_floats(bias, "bias", 1);
    if (offset != nullptr && static_cast<std::int64_t>(offset->size()) != n)
      throw ShapeError("bias: expected [" + std::to_string(n) + "], got [" + std::to_string(offset->size()) + "]");
    py::array_t<float> y({m, n});
    if (m == 0) return y;
    float* out = y.mutable_data();
    without_gil([&] { linear_once(weight.packed, in.data(), m, offset == nullptr ? nullptr : offset->data(), out, threads); });
    return y;
  }, py::arg("weight"), py::arg("x"), py::arg("bias") = py::none(), py::arg("threads") = 1,
     "y [M, N] = x [M, K] w^T + bias, float32. int8 weights quantize x per row.");

  module.def("sampled_product", [](const py::array& y, const py::array& x, const py::array& indptr, const py::array& indices, int threads) {
    const Array<float> left(y, "y", 2), right(x, "x", 2);
    const Array<std::int32_t> rows(indptr, "indptr", 1), columns(indices, "indices", 1);
    const std::int64_t n = left.size(1), k = right.size(1);
    right.expect(0, left.size(0), "x");
    rows.expect(0, n + 1, "indptr");
    py::array_t<float> product({n, k});
    float* out = product.mutable_data();
    without_gil([&] {
      sampled_once({n, k, rows.data(), columns.data(), columns.size()}, right.data(), left.data(), left.size(0), out, threads);
    });
    return product;
  }, py::arg("y"), py::arg("x"), py::arg("indptr"), py::arg("indices"), py::arg("threads") = 1,
     "float32 [N, K]: y [M, N] ^T x [M, K] at the places of a compressed-sparse-row pattern (int32), 0 elsewhere.");
}

}  // namespace aerogel
