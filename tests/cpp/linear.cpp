// Every linear kernel of the table against plain loops over the unpacked weights, on awkward shapes and patterns.
// q8: y bit for bit. f32, also of bf16 and f16 weights: within the bound that linear.h states.
#include <cmath>
#include <cstring>
#include <set>

#include "base/aligned.h"
#include "base/bf16.h"
#include "base/f16.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "runtime/packed_linear.h"

namespace aerogel {
namespace {

using namespace testing;

constexpr float kCanary = 1234567.0f;

struct Case {
  std::int64_t m, n, k;
  int percent_zero;
};

// Weights with some rows empty, some dense, and a nonzero in the very last column.
std::vector<std::int8_t> random_codes(const Case& c, Random& random) {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(c.n * c.k));
  for (std::int64_t n = 0; n < c.n; ++n) {
    int zero = c.percent_zero;
    if (c.percent_zero != 0 && n % 7 == 3) zero = 100;
    if (c.percent_zero != 0 && n % 11 == 5) zero = 0;
    for (std::int64_t k = 0; k < c.k; ++k) {
      std::int64_t value = random.below(255) - 127;
      if (n % 5 == 1) value = value < 0 ? -127 : 127;  // the largest sums
      codes[n * c.k + k] = random.below(100) < zero ? 0 : static_cast<std::int8_t>(value);
    }
    if (n % 7 == 3 && c.percent_zero < 100) codes[n * c.k + c.k - 1] = 127;
  }
  return codes;
}

struct Run {
  const LinearKernel& kernel;
  const Weight& weight;

  // y with canaries around every row, computed unit range by unit range.
  std::vector<float> operator()(const void* x, const float* x_scale, std::int64_t ldx, std::int64_t m,
                                const float* bias, std::int64_t pieces) const {
    const std::int64_t n = weight.n(), ldy = n + 3;
    std::vector<float> y(static_cast<std::size_t>(m * ldy + 8), kCanary);
    const std::size_t scratch_bytes = weight.scratch_bytes(m);
    AlignedBuffer<std::uint8_t> scratch(scratch_bytes + 64);
    std::memset(scratch.data(), 0xAB, scratch.size());
    const std::int64_t units = weight.units();
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      LinearTask task{weight.view(), x, x_scale, ldx, m, units * piece / pieces, units * (piece + 1) / pieces,
                      bias, y.data(), ldy, scratch.data()};
      if (task.unit_begin < task.unit_end) kernel.run(task);
    }
    for (std::size_t i = scratch_bytes; i < scratch.size(); ++i)
      CHECK(scratch[i] == 0xAB, kernel.format << "/" << isa_name(kernel.isa) << " wrote beyond its scratch");
    for (std::int64_t t = 0; t < m; ++t)
      for (std::int64_t i = n; i < ldy; ++i)
        CHECK(y[t * ldy + i] == kCanary, kernel.format << "/" << isa_name(kernel.isa) << " wrote beyond row " << t);
    for (int i = 0; i < 8; ++i) CHECK(y[m * ldy + i] == kCanary, "wrote beyond the last row");
    return y;
  }
};

void check_q8(const LinearKernel& kernel, const Case& c, bool with_bias) {
  Random random(static_cast<std::uint64_t>(c.m * 1000003 + c.n * 1009 + c.k * 31 + c.percent_zero));
  const std::vector<std::int8_t> codes = random_codes(c, random);
  std::vector<float> scale(c.n), bias(c.n), x_scale(c.m);
  for (float& s : scale) s = random.uniform(0.0f, 0.1f);
  for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
  for (float& s : x_scale) s = random.uniform(0.0f, 0.1f);
  const std::int64_t ldx = round_up<std::int64_t>(c.k, 64) + 64 * random.below(2);
  auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(c.m * ldx));
  for (std::int64_t t = 0; t < c.m; ++t)
    for (std::int64_t k = 0; k < c.k; ++k)
      x[t * ldx + k] = static_cast<std::int8_t>(t % 3 == 1 ? (random.below(2) ? 127 : -127) : random.below(255) - 127);

  WeightSource source(c.k);
  WeightSource::Part part;
  part.rows = c.n;
  part.q8 = codes.data();
  part.scale = scale.data();
  source.add("w", part, c.n * c.k);
  const std::unique_ptr<Weight> weight = kernel.pack(source);
  CHECK(weight->n() == c.n && weight->k() == c.k && weight->nonzeros() == source.nonzeros(), "shape of the packed weight");
  std::vector<float> row(c.k), wanted(c.k);
  for (std::int64_t n = 0; n < c.n; ++n) {
    weight->row_f32(n, row.data());
    source.row_f32(n, wanted.data());
    CHECK(row == wanted, kernel.format << "/" << isa_name(kernel.isa) << " unpacks row " << n << " differently");
  }
  CHECK(weight->cost(0) == 0, "cost(0)");
  for (std::int64_t u = 0; u < weight->units(); ++u) CHECK(weight->cost(u + 1) >= weight->cost(u), "cost must not fall");

  for (std::int64_t pieces : {1, 3}) {
    const std::vector<float> y =
        Run{kernel, *weight}(x.data(), x_scale.data(), ldx, c.m, with_bias ? bias.data() : nullptr, pieces);
    for (std::int64_t t = 0; t < c.m; ++t)
      for (std::int64_t n = 0; n < c.n; ++n) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < c.k; ++k) sum += static_cast<std::int32_t>(x[t * ldx + k]) * codes[n * c.k + k];
        const float factor = x_scale[t] * scale[n];
        float expected = static_cast<float>(sum) * factor;
        if (with_bias) expected = expected + bias[n];
        CHECK(y[t * (c.n + 3) + n] == expected,
              kernel.format << "/" << isa_name(kernel.isa) << " m=" << c.m << " n=" << c.n << " k=" << c.k << " zero="
                            << c.percent_zero << "% at [" << t << ", " << n << "]: expected " << expected << ", got "
                            << y[t * (c.n + 3) + n]);
      }
  }
}

void check_f32(const LinearKernel& kernel, const Case& c, bool with_bias) {
  Random random(static_cast<std::uint64_t>(c.m * 1000003 + c.n * 1009 + c.k * 31 + c.percent_zero));
  const std::vector<std::int8_t> codes = random_codes(c, random);
  std::vector<float> w(codes.size()), bias(c.n);
  // A bf16 format is given floats that it has to round; what it is measured by are the rounded ones.
  const bool bf16 = std::strstr(kernel.format, "bf16") != nullptr;
  // Floats are not rounded to f16: its format is given codes.
  const bool f16 = std::strstr(kernel.format, "_f16") != nullptr;
  std::vector<float> given(codes.size());
  std::vector<std::uint16_t> halves(codes.size());
  for (std::size_t i = 0; i < w.size(); ++i) {
    given[i] = codes[i] * random.uniform(0.001f, 0.02f);
    halves[i] = codes[i] == 0 ? 0 : static_cast<std::uint16_t>(random.below(2) << 15 | random.below(0x4400));  // up to 4
    w[i] = f16 ? f16_to_float(halves[i]) : bf16 ? bf16_to_float(bf16_from_float(given[i])) : given[i];
  }
  for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
  const std::int64_t ldx = c.k + random.below(2) * 5;
  std::vector<float> x(static_cast<std::size_t>(c.m * ldx));
  for (float& v : x) v = random.uniform(-2.0f, 2.0f);

  WeightSource source(c.k);
  WeightSource::Part part;
  part.rows = c.n;
  part.f32 = f16 ? nullptr : given.data();
  part.f16 = f16 ? halves.data() : nullptr;
  source.add("w", part, c.n * c.k);
  const std::unique_ptr<Weight> weight = kernel.pack(source);
  std::vector<float> row(c.k);
  for (std::int64_t n = 0; n < c.n; ++n) {
    weight->row_f32(n, row.data());
    CHECK(std::memcmp(row.data(), w.data() + n * c.k, c.k * sizeof(float)) == 0,
          kernel.format << "/" << isa_name(kernel.isa) << " unpacks row " << n << " differently");
  }
  for (std::int64_t pieces : {1, 3}) {
    const std::vector<float> y = Run{kernel, *weight}(x.data(), nullptr, ldx, c.m, with_bias ? bias.data() : nullptr, pieces);
    for (std::int64_t t = 0; t < c.m; ++t)
      for (std::int64_t n = 0; n < c.n; ++n) {
        double sum = with_bias ? bias[n] : 0.0, magnitude = std::fabs(sum);
        for (std::int64_t k = 0; k < c.k; ++k) {
          const double product = static_cast<double>(x[t * ldx + k]) * w[n * c.k + k];
          sum += product;
          magnitude += std::fabs(product);
        }
        const double bound = std::ldexp(1.0, -24) * static_cast<double>(c.k + 2) * magnitude;
        CHECK(std::fabs(y[t * (c.n + 3) + n] - sum) <= bound,
              kernel.format << "/" << isa_name(kernel.isa) << " m=" << c.m << " n=" << c.n << " k=" << c.k << " zero="
                            << c.percent_zero << "% at [" << t << ", " << n << "]: expected " << sum << " +- " << bound
                            << ", got " << y[t * (c.n + 3) + n]);
      }
  }
}

void check_all(const std::vector<Case>& cases) {
  int ran = 0;
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!under_test(kernel.isa, kernel.features) || !holds_any(kernel)) continue;
    ++ran;
    bool with_bias = false;
    for (const Case& c : cases) {
      if (emulated(kernel.isa) && c.m * c.n * c.k > 2500000) continue;
      with_bias = !with_bias;
      kernel.quantized_x ? check_q8(kernel, c, with_bias) : check_f32(kernel, c, with_bias);
    }
  }
  CHECK(ran != 0, "no kernel could run");
}

TEST(linear_small_shapes) {
  std::vector<Case> cases;
  for (std::int64_t m : {1, 2, 3, 5})
    for (std::int64_t n : {1, 2, 7, 8, 9, 15, 16, 17})
      for (std::int64_t k : {1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 63, 64, 65}) cases.push_back({m, n, k, 0});
  for (std::int64_t n : {1, 9, 17, 40})
    for (std::int64_t k : {1, 4, 17, 63, 64, 65, 130})
      for (int zero : {30, 90, 100}) cases.push_back({2, n, k, zero});
  check_all(cases);
}

TEST(linear_tile_edges) {
  std::vector<Case> cases;
  for (std::int64_t m : {1, 4, 6, 7, 8, 11, 12, 13, 15, 16, 17, 24, 31, 33, 48, 65}) cases.push_back({m, 50, 200, 50});
  for (std::int64_t n : {31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 127, 128, 129}) cases.push_back({9, n, 100, 80});
  for (std::int64_t k : {95, 96, 97, 127, 128, 129, 255, 256, 257, 300}) cases.push_back({5, 40, k, 70});
  check_all(cases);
}

TEST(linear_large_shapes) {
  check_all({{33, 130, 1030, 80}, {130, 70, 600, 90}, {3, 40, 5000, 95}, {17, 260, 3072, 50}, {1, 1000, 384, 80}, {20, 33, 2100, 0}});
}

TEST(linear_every_format_has_a_scalar_kernel) {
  std::set<std::string> formats, scalar;
  for (const LinearKernel& kernel : linear_kernels()) {
    formats.insert(kernel.format);
    if (kernel.isa == Isa::scalar) scalar.insert(kernel.format);
  }
  CHECK(formats == scalar, "a format without a scalar reference");
}

// A sparse kernel is chosen only beside a dense one of its own instruction set: not the scalar one of a CPU with plain NEON.
TEST(linear_auto_forms_never_trades_instruction_sets) {
  const std::vector<std::int8_t> codes = [] {
    std::vector<std::int8_t> values(1000, 0);
    for (int i = 0; i < 100; ++i) values[static_cast<std::size_t>(10 * i)] = 7;
    return values;
  }();
  const std::vector<float> scale(10, 1.0f);
  WeightSource source(100);
  WeightSource::Part part;
  part.rows = 10;
  part.q8 = codes.data();
  part.scale = scale.data();
  source.add("w", part, 1000);
  for (Isa isa : supported_isas()) {
    for (const FormChoice& form : auto_forms(source, isa)) {
      CHECK(find_linear(form.format, isa)->isa == find_linear("dense_q8", isa)->isa, isa_name(isa) << ": " << form.format);
      if (isa == Isa::neon) CHECK(form.format == "dense_q8", "neon: " << form.format);
      if (isa == Isa::neondot || isa == Isa::avxvnni || isa == Isa::avx2)
        CHECK(form.format != "dense_q8", isa_name(isa) << ": 90 % zeros, and " << form.format);
    }
  }
}

// A session makes room for its largest call, and then runs calls of fewer tokens too.
TEST(fewer_tokens_never_need_more_scratch) {
  const std::int64_t n = 3, k = 9000;
  const std::vector<float> values(static_cast<std::size_t>(n * k), 0.5f), scale(n, 1.0f);
  const std::vector<std::int8_t> codes(values.size(), 5);
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!isa_supported(kernel.isa) || !holds_any(kernel)) continue;
    WeightSource source(k);
    WeightSource::Part part;
    part.rows = n;
    if (kernel.quantized_x) part.q8 = codes.data(), part.scale = scale.data();
    else part.f32 = values.data();
    source.add("w", part, n * k);
    const std::unique_ptr<Weight> weight = kernel.pack(source);
    for (std::int64_t m = 1, last = 0; m <= 300; ++m) {
      const auto bytes = static_cast<std::int64_t>(weight->scratch_bytes(m));
      CHECK(bytes >= last, kernel.format << "/" << isa_name(kernel.isa) << ": " << bytes << " bytes for " << m << " tokens, " << last << " for fewer");
      last = bytes;
    }
  }
}

TEST(isa_chains_end_in_scalar_and_hold_only_what_the_first_includes) {
  for (Isa isa : supported_isas()) {
    const std::vector<Isa> chain = isa_chain(isa);
    CHECK(chain.front() == isa && chain.back() == Isa::scalar, isa_name(isa));
    for (Isa each : chain) CHECK(isa_supported(each), isa_name(isa) << ": its chain has " << isa_name(each));
    CHECK(isa_from_name(isa_name(isa)) == isa, isa_name(isa));
  }
}

}  // namespace
}  // namespace aerogel
