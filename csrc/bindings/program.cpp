#include "runtime/program.h"

#include <cmath>

#include "bindings/bindings.h"
#include "runtime/ops/activation.h"
#include "runtime/ops/add.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/disentangled_attention.h"
#include "runtime/ops/embed.h"
#include "runtime/ops/join.h"
#include "runtime/ops/l2_normalize.h"
#include "runtime/ops/linear.h"
#include "runtime/ops/norm.h"
#include "runtime/ops/pool.h"
#include "runtime/ops/qk_norm.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/scale.h"
#include "runtime/ops/select_last.h"

namespace aerogel {
namespace {

std::shared_ptr<Table> make_table(const std::string& name, const py::array& values, const py::object& scale) {
  if (values.ndim() != 2) throw ShapeError(name + ": expected 2 dimensions, got " + std::to_string(values.ndim()));
  auto table = std::make_shared<Table>();
  table->name = name;
  table->entries = values.shape(0);
  table->width = values.shape(1);
  if (table->entries < 1 || table->width < 1)
    throw ShapeError(name + ": expected at least one row and column, got " + shape_text(table->entries, table->width));
  if (scale.is_none() && values.dtype().equal(py::dtype::of<std::uint16_t>())) {
    table->bf16 = Array<std::uint16_t>(values, name, 2).data();
  } else if (scale.is_none() && is_float16(values)) {
    table->f16 = float16_codes(values, name, 2);
  } else if (scale.is_none()) {
    table->f32 = Array<float>(values, name, 2).data();
  } else {
    table->q8 = Array<std::int8_t>(values, name, 2).data();
    const Array<float> scales(py::cast<py::array>(scale), name + " scale", 1);
    scales.expect(0, table->entries, name + " scale");
    for (std::int64_t row = 0; row < table->entries; ++row)
      if (!std::isfinite(scales.data()[row]))
        throw DataError(name + ": scale of row " + std::to_string(row) + " is not finite");
    table->scale = scales.data();
  }
  table->owner = keep_alive(py::make_tuple(values, scale));
  return table;
}

// [heads, distances]; a transposed array will do, as tables of biases have the heads last.
Floats copy_biases(const py::object& bias, std::int64_t heads, const std::string& name) {
  if (bias.is_none()) return nullptr;
  const py::array rows = py::module_::import("numpy").attr("ascontiguousarray")(bias);
  Array<float>(rows, name, 2).expect(0, heads, name);
  return copy_floats(rows, name, 2);
}

std::shared_ptr<Table> packed_table(const std::string& name, const PyWeight& weight) {
  auto table = std::make_shared<Table>();
  table->name = name;
  table->entries = weight.packed.n();
  table->width = weight.packed.k();
  table->packed = weight.packed;
  return table;
}

}  // namespace

void bind_program(py::module_& module) {
  py::class_<Table, std::shared_ptr<Table>>(module, "Table", "An embedding table: float32 [V, H], float16, uint16 that are bf16, or int8 [V, H] with float32 [V], not copied; or packed weights, which a linear may share.")
      .def(py::init(&packed_table), py::arg("name"), py::arg("weight"))
      .def(py::init(&make_table), py::arg("name"), py::arg("values"), py::arg("scale") = py::none())
      .def_property_readonly("shape", [](const Table& self) { return py::make_tuple(self.entries, self.width); });

  using Embedding = std::shared_ptr<Table>;
  py::class_<Program>(module, "Program", "What a model computes: ops on values, checked as they are added. Each method returns the new value.")
      .def(py::init<>())
      .def("embed", [](Program& self, const Embedding& tokens, const Embedding& positions, const Embedding& types, std::int64_t offset) {
        return self.add<Embed>(tokens, positions, types, offset);
      }, py::arg("tokens"), py::arg("positions") = Embedding(), py::arg("types") = Embedding(), py::arg("position_offset") = 0,
           "[T, H]: the sum of each token's rows.")
      .def("layer_norm", [](Program& self, const std::string& name, int x, const py::object& gamma, const py::object& beta, float eps) {
        return self.add<LayerNorm>(name, x, copy_floats(gamma, name + ".weight", 1), copy_floats(beta, name + ".bias", 1), eps);
      }, py::arg("name"), py::arg("x"), py::arg("gamma"), py::arg("beta"), py::arg("eps"))
      .def("rms_norm", [](Program& self, const std::string& name, int x, const py::object& gamma, float eps) {
        return self.add<RmsNorm>(name, x, copy_floats(gamma, name + ".weight", 1), eps);
      }, py::arg("name"), py::arg("x"), py::arg("gamma"), py::arg("eps"))
      .def("linear", [](Program& self, const std::string& name, int x, const PyWeight& weight, const py::object& bias, int terms,
                        float limit) {
        return self.add<Linear>(name, x, weight.packed, copy_floats(bias, name + ".bias", 1), terms, limit);
      }, py::arg("name"), py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(), py::arg("terms") = 1,
           py::arg("limit") = 0.0f,
           "[T, K] -> [T, N]. terms=2 splits an int8 input in two rows of codes, for inputs with outliers. limit: an int8 input has "
           "the fixed scale limit / 127 instead of one a token; 0: none.")
      .def("add", [](Program& self, int x, int y) { return self.add<Add>(x, y); }, py::arg("x"), py::arg("y"))
      .def("activation", [](Program& self, int x, const std::string& kind) { return self.add<Activation>(x, kind); }, py::arg("x"), py::arg("kind"))
      .def("gate", [](Program& self, int x, const std::string& kind) { return self.add<Gate>(x, kind); }, py::arg("x"), py::arg("kind"),
           "[T, 2F] (gate | up) -> activation(gate) * up, [T, F].")
      .def("scale", [](Program& self, int x, float factor) { return self.add<Scale>(x, factor); }, py::arg("x"), py::arg("factor"))
      .def("qk_norm", [](Program& self, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                         const py::object& query_gamma, const py::object& key_gamma, float eps) {
        return self.add<QkNorm>(name, x, heads, kv_heads, head_dim, copy_floats(query_gamma, name + " query_gamma", 1),
                                copy_floats(key_gamma, name + " key_gamma", 1), eps);
      }, py::arg("name"), py::arg("x"), py::arg("heads"), py::arg("kv_heads"), py::arg("head_dim"), py::arg("query_gamma"),
           py::arg("key_gamma"), py::arg("eps"), "RMS norms of the queries and keys of [T, (heads + 2 kv_heads) d] = q | k | v.")
      .def("rope", [](Program& self, int x, std::int64_t heads, std::int64_t head_dim, const std::shared_ptr<Rotary>& rotary) {
        return self.add<Rope>(x, heads, head_dim, rotary);
      }, py::arg("x"), py::arg("heads"), py::arg("head_dim"), py::arg("rotary"))
      .def("attention", [](Program& self, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads,
                           std::int64_t head_dim, bool causal, const std::optional<float>& scale,
                           const std::optional<std::int64_t>& window, float softcap, const py::object& bias, const py::object& slopes) {
        AttentionOptions options{window, softcap, copy_biases(bias, heads, name + " bias"), copy_floats(slopes, name + " slopes", 1)};
        return self.add<Attention>(name, x, heads, kv_heads, head_dim, causal,
                                   scale ? *scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim))), std::move(options));
      }, py::arg("name"), py::arg("x"), py::arg("heads"), py::arg("kv_heads"), py::arg("head_dim"), py::arg("causal"),
           py::arg("scale") = py::none(), py::arg("window") = py::none(), py::arg("softcap") = 0.0f, py::arg("bias") = py::none(),
           py::arg("slopes") = py::none(), "[T, (heads + 2 kv_heads) d] = q | k | v -> [T, heads d].")
      .def("disentangled_attention", [](Program& self, const std::string& name, int x, std::int64_t heads, std::int64_t head_dim,
                                        float scale, const py::array& rows, const py::object& position_keys,
                                        const py::object& position_queries) {
        const Array<std::int32_t> by_distance(rows, name + " rows", 1);
        return self.add<DisentangledAttention>(name, x, heads, head_dim, scale,
                                               std::vector<std::int32_t>(by_distance.data(), by_distance.data() + by_distance.size()),
                                               copy_floats(position_keys, name + " position_keys", 2),
                                               copy_floats(position_queries, name + " position_queries", 2));
      }, py::arg("name"), py::arg("x"), py::arg("heads"), py::arg("head_dim"), py::arg("scale"), py::arg("rows"),
           py::arg("position_keys") = py::none(), py::arg("position_queries") = py::none(),
           "[T, 3 heads d] = q | k | v -> [T, heads d], with products of contents and positions.")
      .def("join", [](Program& self, const std::vector<int>& parts, const std::vector<std::int64_t>& shifts) {
        return self.add<Join>(parts, shifts);
      }, py::arg("parts"), py::arg("shifts"),
           "[T, a], [T, b], ... -> [T, a + b + ...]: row t + shift of each part, of the same sequence, or zeros.")
      .def("select_last", [](Program& self, int x) { return self.add<SelectLast>(x); }, py::arg("x"))
      .def("pool", [](Program& self, int x, const std::vector<std::string>& kinds) { return self.add<Pool>(x, kinds); }, py::arg("x"), py::arg("kinds"))
      .def("l2_normalize", [](Program& self, int x) { return self.add<L2Normalize>(x); }, py::arg("x"))
      .def("output", &Program::output, py::arg("name"), py::arg("x"))
      .def("set_max_positions", &Program::set_max_positions, py::arg("limit"))
      .def_property_readonly("max_positions", &Program::max_positions);
}

}  // namespace aerogel
