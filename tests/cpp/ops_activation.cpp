// Activations against double precision. The bounds are the ones of docs/numerics.md; AEROGEL_EXHAUSTIVE=1 takes every
// float of the range instead of every 997th, and prints what it saw.
#include <cstdlib>
#include <limits>

#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

using Run = void (*)(const ActivationTask&);

struct Function {
  const char* name;
  Run Ops::*run;
  double (*formula)(double);
  // |error| <= relative * |y| + absolute, and for |x| < 2 also <= near * |y|
  double relative, absolute, near;
};

double gelu_erf(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double gelu_tanh(double x) { return x / (1.0 + std::exp(-2.0 * std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x))); }
double relu(double x) { return x > 0.0 ? x : 0.0; }
double hyperbolic(double x) { return std::tanh(x); }
double silu(double x) { return x / (1.0 + std::exp(-x)); }

const Function kFunctions[] = {
    {"gelu_erf", &Ops::gelu_erf, gelu_erf, 1.2e-7, 1.5e-7, 1.3e-6},
    {"gelu_tanh", &Ops::gelu_tanh, gelu_tanh, 1.2e-7, 2.5e-7, 3.5e-6},
    {"relu", &Ops::relu, relu, 0.0, 0.0, 0.0},
    {"tanh_act", &Ops::tanh_act, hyperbolic, 3e-7, 0.0, 3e-7},
    {"silu", &Ops::silu, silu, 4e-7, 4e-7, 2e-6},
};

void measure(Isa isa, const Function& function, bool print) {
  const std::uint32_t step = print ? 1 : 997;
  constexpr std::int64_t chunk = 1 << 12;
  std::vector<float> x(chunk), y(chunk);
  double worst = 0.0, worst_absolute = 0.0, at = 0.0, near = 0.0, near_at = 0.0;
  std::uint32_t begin, end;
  const float low = 1e-4f, high = 120.0f;
  std::memcpy(&begin, &low, 4);
  std::memcpy(&end, &high, 4);
  for (std::uint64_t bits = begin; bits < end;) {
    std::int64_t count = 0;
    for (; count < chunk && bits < end; bits += step, count += 2) {
      const std::uint32_t word = static_cast<std::uint32_t>(bits);
      std::memcpy(&x[count], &word, 4);
      x[count + 1] = -x[count];
    }
    (ops_for(isa).*function.run)({x.data(), chunk, 1, count, y.data(), chunk, nullptr, 0, nullptr});
    for (std::int64_t i = 0; i < count; ++i) {
      const double wanted = function.formula(x[i]), error = std::fabs(y[i] - wanted);
      double bound = function.relative * std::fabs(wanted) + function.absolute;
      if (std::fabs(x[i]) < 2.0f) bound = std::fmin(bound, function.near * std::fabs(wanted));
      CHECK(error <= bound, function.name << " " << isa_name(isa) << " of " << x[i] << ": " << y[i] << ", expected " << wanted << " +- " << bound);
      const double relative = error / std::fmax(std::fabs(wanted), 1e-6);
      if (relative > worst) worst = relative, at = x[i];
      if (x[i] > -2.0f && relative > near) near = relative, near_at = x[i];
      worst_absolute = std::fmax(worst_absolute, error / std::fmax(1.0, std::fabs(wanted)));
    }
  }
  if (print)
    std::printf("%s %s: worst error / max(|y|, 1e-6) %.3g at %g; for x > -2 %.3g at %g; error / max(|y|, 1) %.3g\n", function.name,
                isa_name(isa), worst, at, near, near_at, worst_absolute);
}

TEST(ops_activation_accuracy) {
  const bool exhaustive = std::getenv("AEROGEL_EXHAUSTIVE") != nullptr;
  for (Isa isa : tested_isas())
    for (const Function& function : kFunctions)
      if (!exhaustive || isa != Isa::scalar) measure(isa, function, exhaustive);
}

TEST(ops_activation_special_values) {
  const float inf = std::numeric_limits<float>::infinity();
  for (Isa isa : tested_isas())
    for (const Function& function : kFunctions)
      for (std::int64_t width : {1, 8, 40}) {
        const auto of = [&](float value) {
          std::vector<float> x(static_cast<std::size_t>(width), value), y(x.size());
          (ops_for(isa).*function.run)({x.data(), width, 1, width, y.data(), width, nullptr, 0, nullptr});
          for (float v : y) CHECK(same_bits(v, y[0]) || std::isnan(v), "lanes differ");
          return y[0];
        };
        const bool bounded = function.formula == hyperbolic;
        const std::string where = std::string(function.name) + " " + isa_name(isa);
        CHECK(std::isnan(of(std::nanf(""))) && std::isnan(of(-std::nanf(""))), where << " hides a NaN");
        CHECK(of(0.0f) == 0.0f && of(-0.0f) == 0.0f, where << " of 0");
        CHECK(of(inf) == (bounded ? 1.0f : inf), where << " of inf: " << of(inf));
        CHECK(of(-inf) == (bounded ? -1.0f : 0.0f), where << " of -inf: " << of(-inf));
        for (float large : {50.0f, 1e5f, 1e20f, 3.4e38f}) {
          CHECK(of(large) == (bounded ? 1.0f : large), where << " of " << large << ": " << of(large));
          const float y = of(-large);
          CHECK(bounded ? y == -1.0f : std::fabs(y) <= 1e-19f, where << " of " << -large << ": " << y);
        }
        for (float tiny : {1e-45f, 1e-40f, 1e-30f, 1e-10f})
          CHECK(std::fabs(of(tiny) - function.formula(tiny)) <= 1e-6 * tiny + 1.5e-45, where << " of " << tiny << ": " << of(tiny));
      }
}

TEST(ops_activation_rows_codes_and_places) {
  struct Case {
    const char* name;
    Run Ops::*run;
    bool gated;
  };
  const Case cases[] = {{"gelu_erf", &Ops::gelu_erf, false}, {"gelu_tanh", &Ops::gelu_tanh, false}, {"relu", &Ops::relu, false},
                        {"tanh_act", &Ops::tanh_act, false}, {"silu", &Ops::silu, false},           {"silu_gate", &Ops::silu_gate, true},
                        {"gelu_erf_gate", &Ops::gelu_erf_gate, true}, {"gelu_tanh_gate", &Ops::gelu_tanh_gate, true},
                        {"relu_gate", &Ops::relu_gate, true}};
  Random random(5);
  for (Isa isa : tested_isas())
    for (const Case& c : cases)
      for (std::int64_t width : kWidths)
        for (int place = 0; place < 3; ++place) {  // apart, in place, one row of scratch
          const std::int64_t rows = 3, ldx = (c.gated ? 2 * width : width) + 3;
          std::vector<float> x = random_floats(random, rows * ldx, -8.0f, 8.0f), wanted(static_cast<std::size_t>(rows * width));
          (ops_for(Isa::scalar).*c.run)({x.data(), ldx, rows, width, wanted.data(), width, nullptr, 0, nullptr});
          std::vector<float> y(static_cast<std::size_t>(rows * ldx), kCanary);
          const std::vector<float> before = x;
          Codes codes(rows, round_up<std::int64_t>(width, 64) + 64);
          float* to = place == 1 ? x.data() : y.data();
          const std::int64_t ldy = place == 2 ? 0 : ldx;
          (ops_for(isa).*c.run)({x.data(), ldx, rows, width, to, ldy, codes.q.data(), codes.ldq, codes.scale.data()});
          const std::string where = std::string(c.name) + " " + isa_name(isa) + " width " + std::to_string(width);
          for (std::int64_t t = place == 2 ? rows - 1 : 0; t < rows; ++t) {
            const float* got = to + t * ldy;
            for (std::int64_t k = 0; k < width; ++k)
              CHECK(std::fabs(got[k] - wanted[t * width + k]) <= 1e-6 * std::fabs(wanted[t * width + k]) + 4e-6,
                    where << " [" << t << ", " << k << "]: " << got[k] << ", scalar " << wanted[t * width + k]);
            codes.check_row(t, got, width, where);
            if (place != 2)
              for (std::int64_t k = width; k < ldx; ++k)
                CHECK(got[k] == (place == 1 ? before[t * ldx + k] : kCanary), where << " wrote beyond its row");
          }
          if (place == 2)
            for (std::size_t i = static_cast<std::size_t>(width); i < y.size(); ++i) CHECK(y[i] == kCanary, where << " wrote beyond its scratch");
          codes.check_canary(where);
          if (place == 2) {
            Codes again(rows, codes.ldq);
            (ops_for(isa).*c.run)({x.data(), ldx, rows, width, y.data(), ldx, again.q.data(), again.ldq, again.scale.data()});
            CHECK(std::memcmp(again.q.data(), codes.q.data(), codes.q.size()) == 0 && again.scale == codes.scale, where << " codes with scratch");
          }
        }
}

// A value alone gives what it gives among others, wherever it stands; and gelu the same bits on every vector instruction set.
TEST(ops_activation_bits) {
  constexpr std::int64_t width = 147;
  Random random(6);
  const std::vector<float> x = random_floats(random, width, -10.0f, 10.0f);
  for (const Function& function : kFunctions) {
    std::vector<float> before;
    for (Isa isa : supported_isas()) {
      const auto run = [&](const float* from, std::int64_t count, float* to) {
        (ops_for(isa).*function.run)({from, count, 1, count, to, count, nullptr, 0, nullptr});
      };
      std::vector<float> y(width);
      run(x.data(), width, y.data());
      for (std::int64_t i = 0; i < width; ++i) {
        float alone;
        run(x.data() + i, 1, &alone);
        CHECK(same_bits(alone, y[i]), function.name << " " << isa_name(isa) << " of " << x[i] << " at " << i << ": " << y[i] << ", alone " << alone);
      }
      if (isa == Isa::scalar || (function.formula != gelu_erf && function.formula != gelu_tanh)) continue;
      if (!before.empty()) CHECK(std::memcmp(before.data(), y.data(), sizeof(float) * width) == 0, function.name << " " << isa_name(isa) << " has other bits");
      before = y;
    }
  }
}

}  // namespace
}  // namespace aerogel
