#include "bindings/bindings.h"
#include "sampling/sampler.h"

namespace aerogel {
namespace {

std::int32_t choose(Sampler& sampler, const py::array& logits, const std::vector<std::int32_t>& banned, const py::object& allowed) {
  const Array<float> x(logits, "logits", 1);
  if (!logits.writeable()) throw ShapeError("logits: expected an array that can be written to");
  if (x.size() == 0) throw ShapeError("logits: expected at least one");
  const std::uint32_t* mask = nullptr;
  py::array kept;
  if (!allowed.is_none()) {
    kept = py::cast<py::array>(allowed);
    const Array<std::uint32_t> bits(kept, "allowed", 1);
    bits.expect(0, (x.size() + 31) / 32, "allowed");
    mask = bits.data();
  }
  sampler.adjust(const_cast<float*>(x.data()), x.size(), banned, mask);
  return sampler.choose(x.data(), x.size());
}

}  // namespace

void bind_sampling(py::module_& module) {
  py::class_<Sampler>(module, "Sampler", "Chooses the tokens of one text.")
      .def(py::init([](double temperature, std::int64_t top_k, double top_p, double min_p, double typical_p, double repetition,
                       double presence, double frequency, std::vector<std::pair<std::int32_t, float>> bias, std::uint64_t seed) {
             return Sampler({temperature, top_k, top_p, min_p, typical_p, repetition, presence, frequency, std::move(bias), seed});
           }),
           py::arg("temperature") = 0.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0, py::arg("min_p") = 0.0,
           py::arg("typical_p") = 1.0, py::arg("repetition") = 1.0, py::arg("presence") = 0.0, py::arg("frequency") = 0.0,
           py::arg("bias") = std::vector<std::pair<std::int32_t, float>>(), py::arg("seed") = 0)
      .def("see", &Sampler::see, py::arg("token"), py::arg("written"), "The text goes on with this token.")
      .def("choose", &choose, py::arg("logits"), py::arg("banned") = std::vector<std::int32_t>(), py::arg("allowed") = py::none(),
           "The next token; logits float32 [V] are changed. allowed: uint32 [ceil(V / 32)], a bit for each token.");
  module.def("log_probabilities", [](const py::array& logits, const std::vector<std::int32_t>& tokens, std::int64_t top) {
    const Array<float> x(logits, "logits", 1);
    if (x.size() == 0) throw ShapeError("logits: expected at least one");
    const LogProbabilities found = log_probabilities(x.data(), x.size(), tokens, top);
    return py::make_tuple(found.of, found.top);
  }, py::arg("logits"), py::arg("tokens"), py::arg("top") = 0,
     "Logarithms of softmax(logits): of the tokens, and (token, value) of the `top` likeliest.");
}

}  // namespace aerogel
