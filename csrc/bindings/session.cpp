#include "runtime/session.h"

#include "bindings/bindings.h"
#include "bindings/without_gil.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/linear.h"
#include "runtime/ops/quantize.h"

namespace aerogel {
namespace {

constexpr std::pair<const char*, AttentionProducts> kProducts[] = {
    {"auto", AttentionProducts::automatic}, {"float32", AttentionProducts::float32}, {"int16", AttentionProducts::int16},
    {"int8", AttentionProducts::int8}};

AttentionProducts products_of(const std::string& name) {
  for (const auto& [known, products] : kProducts)
    if (name == known) return products;
  throw Error("attention: expected one of auto, float32, int16, int8, got '" + name + "'");
}

const char* name_of(AttentionProducts products) {
  for (const auto& [known, other] : kProducts)
    if (products == other) return known;
  return "";
}

py::list describe(const Plan& plan) {
  py::list rows;
  for (const Schedule& schedule : plan.schedules())
    for (const Step& step : schedule.steps) {
      const Op& op = *step.op;
      py::dict row;
      row["output"] = schedule.output;
      row["op"] = op.kind();
      row["name"] = op.name();
      row["width"] = op.result().width;
      if (const PackedLinear* weight = op.weight()) {
        row["shape"] = py::make_tuple(weight->n(), weight->k());
        row["numbers"] = weight->numbers();
        row["forms"] = describe_forms(*weight);
        row["nbytes"] = weight->bytes();
        row["nonzeros"] = weight->nonzeros();
      }
      if (const auto* linear = dynamic_cast<const Linear*>(&op)) {
        row["terms"] = linear->terms();
        row["limit"] = linear->limit();
      }
      if (dynamic_cast<const Attention*>(&op) != nullptr) row["products"] = name_of(plan.attention());
      if (const auto* quantize = dynamic_cast<const Quantize*>(&op)) row["limit"] = quantize->limit();
      rows.append(std::move(row));
    }
  return rows;
}

Kept kept_of(const std::string& name) {
  if (name == "float32") return Kept::float32;
  if (name == "float16") return Kept::float16;
  if (name == "int8") return Kept::int8;
  throw DataError("kv_cache: expected float32, float16 or int8, got '" + name + "'");
}

py::array_t<float> run(Session& session, const py::array& tokens, const py::array& offsets, const std::string& output,
                       bool last_only, const py::object& types, const py::object& slots) {
  const Array<std::int32_t> ids(tokens, "token_ids", 1);
  const Array<std::int64_t> cuts(offsets, "offsets", 1);
  if (cuts.size() < 2) throw ShapeError("offsets: expected at least one sequence, got none");
  Batch batch{};
  batch.tokens = ids.data();
  batch.token_count = ids.size();
  batch.offsets = cuts.data();
  batch.sequences = cuts.size() - 1;
  batch.last_only = last_only;
  py::array kept_types;
  if (!types.is_none()) {
    kept_types = py::cast<py::array>(types);
    const Array<std::int32_t> checked(kept_types, "type_ids", 1);
    checked.expect(0, batch.token_count, "type_ids");
    batch.types = checked.data();
  }
  std::vector<std::int64_t> kept_slots;
  if (!slots.is_none()) {
    kept_slots = py::cast<std::vector<std::int64_t>>(slots);
    if (static_cast<std::int64_t>(kept_slots.size()) != batch.sequences)
      throw ShapeError("slots: expected one per sequence, " + std::to_string(batch.sequences) + ", got " + std::to_string(kept_slots.size()));
    batch.slots = kept_slots.data();
  }
  const Schedule& schedule = session.plan().schedule(output);
  session.check(schedule, batch);
  py::array_t<float> y({session.result_rows(schedule, batch), schedule.result.width});
  float* out = y.mutable_data();
  without_gil([&] { session.run(schedule, batch, out); });
  return y;
}

}  // namespace

void bind_session(py::module_& module) {
  py::class_<Plan, std::shared_ptr<Plan>>(module, "Plan", "A program made ready to run. Immutable, shared between threads.")
      .def(py::init([](const Program& program, const std::optional<int>& threads, const std::optional<std::string>& isa,
                       const std::string& attention) {
        const Isa chosen = isa ? isa_from_name(*isa) : active_isa();
        if (!isa_supported(chosen)) throw IsaError("instruction set '" + *isa + "' is not supported by this CPU");
        return std::make_shared<Plan>(program, threads.value_or(0), chosen, products_of(attention));
      }), py::arg("program"), py::arg("threads") = py::none(), py::arg("isa") = py::none(), py::arg("attention") = "float32",
           "isa: of all ops but linears; the one in use unless given. attention: what it multiplies, float32, int16 or int8; auto: codes "
           "where linears are quantized and nothing is generated, int8 if their inputs are codes of 8 bits too.")
      .def_property_readonly("attention", [](const Plan& self) { return name_of(self.attention()); }, "float32, int16 or int8.")
      .def_property_readonly("threads", &Plan::threads)
      .def_property_readonly("nbytes", &Plan::weight_bytes, "Resident bytes of all packed weights.")
      .def("cache_token_bytes", [](const Plan& self, const std::string& kv_cache) {
        return KvLayout(self.program().kv_caches(), kept_of(kv_cache)).block_bytes() / static_cast<std::size_t>(kKeptTokens);
      }, py::arg("kv_cache"), "Bytes that a session keeps of each token in a slot.")
      .def("describe", &describe, "The steps of each output, in order.")
      .def("weight", [](const Plan& self, const std::string& name) {
        for (const auto& op : self.program().ops())
          if (op->weight() != nullptr && op->name() == name) return PyWeight{*op->weight()};
        throw Error("this model has no linear '" + name + "'");
      }, py::arg("name"), "The packed weights of the linear of that name.");

  py::class_<Session>(module, "Session", "The mutable state of one caller. Not to be used by two threads at once.")
      .def(py::init([](const std::shared_ptr<Plan>& plan, const std::string& kv_cache) {
        return std::make_unique<Session>(plan, kept_of(kv_cache));
      }), py::arg("plan").none(false), py::arg("kv_cache") = "float32", "kv_cache: as what keys and values are kept: float32, float16 or int8.")
      .def("run", &run, py::arg("token_ids"), py::arg("offsets"), py::arg("output"), py::arg("last_only") = false,
           py::arg("type_ids") = py::none(), py::arg("slots") = py::none(),
           "The forward pass, without the GIL. int32 [T] and int64 [S+1] -> float32 [rows, width].")
      .def("slot_length", &Session::slot_length, py::arg("slot"))
      .def("truncate_slot", &Session::truncate_slot, py::arg("slot"), py::arg("length"),
           "Forgets the tokens of a slot behind the first `length`.")
      .def("share_slot", &Session::share_slot, py::arg("from_slot"), py::arg("to_slot"), py::arg("length"),
           "An empty slot gets the first `length` tokens of another one, without a copy.")
      .def("free_slot", &Session::free_slot, py::arg("slot"))
      .def_property_readonly("cache_nbytes", &Session::cache_bytes, "Bytes of the keys and values of all slots; shared ones once.")
      .def_property_readonly("nbytes", &Session::bytes, "Bytes of memory that are kept for the next call, KV cache included.")
      .def("shrink", &Session::shrink, py::arg("bytes"),
           "Gives up the memory of finished calls where it is more than that; the bytes given back since the last time, freed slots included.")
      .def("profile", &Session::profile, py::arg("on"))
      .def("timings", [](const Session& self) {
        py::list rows;
        for (const StepTiming& timing : self.timings()) {
          py::dict row;
          row["op"] = timing.step->op->kind();
          row["name"] = timing.step->op->name();
          row["calls"] = timing.calls;
          row["seconds"] = timing.seconds;
          rows.append(std::move(row));
        }
        return rows;
      });
}

}  // namespace aerogel
