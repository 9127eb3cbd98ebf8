#include "runtime/rotary.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "bindings/bindings.h"

namespace aerogel {
namespace {

std::vector<float> vector_of(const py::array& values, const std::string& name) {
  const Array<float> array(values, name, 1);
  return {array.data(), array.data() + array.size()};
}

std::shared_ptr<Rotary> make_rotary(const py::array& frequencies, std::int64_t positions, float scale, std::int64_t after,
                                    const std::optional<py::array>& beyond, const std::optional<std::pair<float, float>>& growth) {
  if (beyond && growth) throw Error("rotary: expected one of beyond and growth, got both");
  std::optional<Rotary::Beyond> rest;
  if (beyond) rest = Rotary::Beyond{after, vector_of(*beyond, "rotary beyond"), {0, 0}};
  if (growth) rest = Rotary::Beyond{after, {}, {growth->first, growth->second}};
  return std::make_shared<Rotary>(vector_of(frequencies, "rotary frequencies"), positions, scale, std::move(rest));
}

// cos and sin of every token of the sequences between the cuts, [T, pairs] each.
void write_turns(const Rotary& rotary, const Array<std::int64_t>& cuts, std::int64_t longest, float* cos, float* sin) {
  const std::int64_t pairs = rotary.pairs();
  const std::size_t bytes = static_cast<std::size_t>(pairs) * sizeof(float);
  std::vector<float> frequencies(static_cast<std::size_t>(pairs));
  rotary.reserve(longest);
  for (std::int64_t s = 0; s + 1 < cuts.size(); ++s) {
    const std::int64_t length = cuts.data()[s + 1] - cuts.data()[s];
    const bool has_table = rotary.has_table(length);
    if (!has_table) rotary.frequencies(length, frequencies.data());
    for (std::int64_t position = 0; position < length; ++position, cos += pairs, sin += pairs) {
      if (!has_table) {
        rotary.turn(position, frequencies.data(), cos, sin);
        continue;
      }
      const Rotary::Rows rows = rotary.rows(position, length);
      std::memcpy(cos, rows.cos + (position - rows.first) * pairs, bytes);
      std::memcpy(sin, rows.sin + (position - rows.first) * pairs, bytes);
    }
  }
}

py::tuple turns(const Rotary& rotary, const py::array& offsets) {
  const Array<std::int64_t> cuts(offsets, "offsets", 1);
  if (cuts.size() < 1 || cuts.data()[0] != 0) throw ShapeError("offsets: expected to begin with 0");
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s + 1 < cuts.size(); ++s) {
    const std::int64_t length = cuts.data()[s + 1] - cuts.data()[s];
    if (length < 0 || length > rotary.positions())
      throw ShapeError("sequence " + std::to_string(s) + ": expected at most " + std::to_string(rotary.positions()) + " positions, got " +
                       std::to_string(length));
    longest = std::max(longest, length);
  }
  const std::int64_t tokens = cuts.data()[cuts.size() - 1];
  py::array_t<float> cos({tokens, rotary.pairs()}), sin({tokens, rotary.pairs()});
  float* const c = cos.mutable_data();
  float* const s = sin.mutable_data();
  {
    py::gil_scoped_release release;
    write_turns(rotary, cuts, longest, c, s);
  }
  return py::make_tuple(cos, sin);
}

}  // namespace

void bind_rotary(py::module_& module) {
  py::class_<Rotary, std::shared_ptr<Rotary>>(module, "Rotary",
      "By which angles positions turn; its tables grow with the longest sequence, and everybody who holds it shares them.")
      .def(py::init(&make_rotary), py::arg("frequencies"), py::arg("positions"), py::arg("scale") = 1.0f, py::arg("after") = 0,
           py::arg("beyond") = py::none(), py::arg("growth") = py::none(),
           "frequencies: radians a position of each pair, float32 [pairs]. positions: no sequence is longer. scale: of cos and sin. "
           "Sequences of more than `after` positions turn by the frequencies `beyond`, or, with growth = (theta, factor), by "
           "those of a base that grows with their length.")
      .def_property_readonly("pairs", &Rotary::pairs)
      .def_property_readonly("positions", &Rotary::positions)
      .def_property_readonly("table_bytes", &Rotary::table_bytes, "Of the tables made so far.")
      .def("frequencies", [](const Rotary& self, std::int64_t length) {
        py::array_t<float> found(self.pairs());
        self.frequencies(length, found.mutable_data());
        return found;
      }, py::arg("length"), "Radians a position of each pair, in a sequence of `length` positions, float32 [pairs].")
      .def("turns", &turns, py::arg("offsets"),
           "cos and sin of every token of a ragged batch, float32 [T, pairs] each; sequence s has tokens offsets[s] to offsets[s + 1].");
}

}  // namespace aerogel
