#include "runtime/linear_time.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/evict.h"
#include "runtime/linear_run.h"

namespace aerogel {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Inputs of every kind that a candidate may take. The values do not matter for the time, but must not be denormal.
struct Inputs {
  Inputs(std::int64_t rows, std::int64_t k)
      : ld(round_up<std::int64_t>(k, 64)), floats(rows * k), codes(rows * ld), scale(rows) {
    std::uint32_t state = 1;
    const auto next = [&state] { return (state = state * 1664525u + 1013904223u) >> 16; };
    for (std::size_t i = 0; i < floats.size(); ++i) floats.data()[i] = static_cast<float>(next() % 255) / 127.0f - 1.0f;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = 0; i < ld; ++i)
        codes.data()[row * ld + i] = i < k ? static_cast<std::int8_t>(static_cast<int>(next() % 255) - 127) : std::int8_t{0};
      scale.data()[row] = 0.01f;
    }
  }
  std::int64_t ld;
  AlignedBuffer<float> floats;
  AlignedBuffer<std::int8_t> codes;
  AlignedBuffer<float> scale;
};

}  // namespace

std::vector<std::vector<double>> time_linears(const std::vector<PackedLinear>& candidates, const LinearTiming& timing) {
  if (candidates.empty()) return {};
  if (timing.rows < 1 || timing.rounds < 1) throw Error("time_linears: expected at least one row and one round");
  const std::int64_t n = candidates[0].n(), k = candidates[0].k();
  std::size_t scratch_bytes = 0;
  for (const PackedLinear& candidate : candidates) {
    if (candidate.n() != n || candidate.k() != k)
      throw ShapeError("time_linears: expected " + shape_text(n, k) + ", got " + shape_text(candidate.n(), candidate.k()));
    scratch_bytes = std::max(scratch_bytes, candidate.scratch_bytes(timing.rows));
  }
  const Inputs x(timing.rows, k);
  AlignedBuffer<float> y(static_cast<std::size_t>(timing.rows * n));

  Team& team = shared_team(timing.threads);
  ScratchPool scratch(team.size());
  scratch.reserve(scratch_bytes);
  const auto lock = team.lock();
  const Crew crew{&team, 0};
  std::vector<std::vector<double>> times(candidates.size());
  const auto begin = Clock::now();
  for (int round = -1; round < timing.rounds; ++round) {
    if (round >= 3 && seconds_since(begin) > timing.seconds) break;
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      const PackedLinear& linear = candidates[c];
      const bool codes = linear.quantized_x();
      if (timing.evict)
        for (const LinearForm& form : linear.forms())
          for (const Bytes& array : form.weight->arrays()) evict(array.data, array.size);
      const auto start = Clock::now();
      run_linear(linear, codes ? static_cast<const void*>(x.codes.data()) : x.floats.data(), codes ? x.scale.data() : nullptr,
                 codes ? x.ld : k, timing.rows, nullptr, y.data(), crew, scratch);
      if (round >= 0) times[c].push_back(seconds_since(start));
    }
  }
  return times;
}

}  // namespace aerogel
