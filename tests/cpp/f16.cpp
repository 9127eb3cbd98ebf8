// f16 weights: widening, what a source of them refuses, and that the kernels compute with exactly the weights that were stored.
#include <cmath>
#include <cstring>

#include "base/aligned.h"
#include "base/error.h"
#include "base/f16.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "runtime/packed_linear.h"

namespace aerogel {
namespace {

using namespace testing;

std::uint16_t random_half(Random& random) {
  std::uint16_t code;
  do code = static_cast<std::uint16_t>(random.below(0x10000));
  while (!f16_is_finite(code));
  return code;
}

WeightSource::Part part_of(std::int64_t rows, const std::vector<std::uint16_t>& codes) {
  WeightSource::Part part;
  part.rows = rows;
  part.f16 = codes.data();
  return part;
}

TEST(f16_every_code_widens_to_its_value) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto code = static_cast<std::uint16_t>(i);
    const int exponent = static_cast<int>(i >> 10 & 31);
    const double rest = static_cast<double>(i & 0x3ff) / 1024;
    const double magnitude = exponent == 0 ? std::ldexp(rest, -14) : std::ldexp(1 + rest, exponent - 15);
    const float got = f16_to_float(code);
    CHECK(f16_is_finite(code) == (exponent != 31) && std::isfinite(got) == (exponent != 31), "finite: " << std::hex << i);
    CHECK(std::signbit(got) == (i >> 15 != 0), "sign of " << std::hex << i);
    if (exponent == 31) CHECK(std::isnan(got) == (rest != 0), "NaN: " << std::hex << i);
    else CHECK(static_cast<double>(std::fabs(got)) == magnitude, std::hex << i << ": expected " << magnitude << ", got " << got);
  }
}

template <class Do>
void check_refused(const Do& act, const std::string& words) {
  try {
    act();
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find(words) != std::string::npos, error.what() << " does not say: " << words);
    return;
  }
  CHECK(false, "not refused: " << words);
}

TEST(f16_source_refuses_what_kernels_could_not_trust) {
  std::vector<std::uint16_t> codes(6, 0x3c00);
  const float floats[6] = {};
  WeightSource source(3);
  source.add("w", part_of(2, codes), 6);
  CHECK(source.f16() && !source.bf16() && !source.quantized() && source.nonzeros() == 6, "a good one");
  CHECK(std::string(source.numbers()) == "float16", source.numbers());
  check_refused([&] { WeightSource(3).add("w", part_of(2, codes), 5); }, "expected 6 stored values, got 5");
  for (std::uint16_t bad : {0x7c00, 0xfc00, 0x7e00}) {
    codes[4] = bad;
    check_refused([&] { WeightSource(3).add("w", part_of(2, codes), 6); }, "value 4 is ");
  }
  WeightSource::Part other;
  other.rows = 2;
  other.f32 = floats;
  check_refused([&] { source.add("x", other, 6); }, "all be float, all bf16, all f16, all int8 or all blocks");
  WeightSource wide(3);
  wide.add("x", other, 6);
  check_refused([&] { pack_linear(wide, {{"dense_f16"}}, active_isa()); }, "takes float16 values, got float32 ones");
}

// Every f16 number comes back from every format that holds it, dense and behind a mask, as it was given.
TEST(f16_source_is_not_rounded) {
  const std::int64_t n = 33, k = 1999;
  std::vector<std::uint16_t> codes(static_cast<std::size_t>(n * k)), stored;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(n * ((k + 7) / 8)), 0);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto code = static_cast<std::uint16_t>(i);
    codes[i] = f16_is_finite(code) && i % 3 != 1 ? code : 0;
    if (codes[i] == 0) continue;
    mask[i / k * ((k + 7) / 8) + i % k / 8] |= static_cast<std::uint8_t>(1u << (i % k % 8));
    stored.push_back(codes[i]);
  }
  WeightSource::Part sparse = part_of(n, stored);
  sparse.mask = mask.data();
  WeightSource both(k);
  both.add("dense", part_of(n, codes), n * k);
  both.add("sparse", sparse, static_cast<std::int64_t>(stored.size()));
  std::vector<float> row(k);
  for (const char* format : {"dense_f16", "dense_f32", "csr_f32"})
    for (const LinearKernel& kernel : linear_kernels()) {
      if (std::string(kernel.format) != format || !under_test(kernel.isa, kernel.features)) continue;
      CHECK(refusal(format, kernel.quantized_x, both).empty(), format);
      const std::unique_ptr<Weight> weight = kernel.pack(both);
      CHECK(weight->n() == 2 * n && weight->nonzeros() == both.nonzeros(), kernel.format << " shape");
      for (std::int64_t r = 0; r < 2 * n; ++r) {
        weight->row_f32(r, row.data());
        for (std::int64_t i = 0; i < k; ++i)
          CHECK(row[i] == f16_to_float(codes[r % n * k + i]), kernel.format << "/" << isa_name(kernel.isa) << " at " << r << ", " << i);
      }
    }
}

std::vector<float> run(const LinearKernel& kernel, const Weight& weight, const std::vector<float>& x, std::int64_t m) {
  std::vector<float> y(static_cast<std::size_t>(m * weight.n()));
  AlignedBuffer<std::uint8_t> scratch(weight.scratch_bytes(m) + 1);
  kernel.run({weight.view(), x.data(), nullptr, weight.k(), m, 0, weight.units(), nullptr, y.data(), weight.n(), scratch.data()});
  return y;
}

// What layout.h promises: on each instruction set dense_f16 is dense_f32 over the widened weights, bit for bit. Denormals too.
TEST(f16_dense_equals_dense_f32_of_the_same_weights) {
  int ran = 0;
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::string(kernel.format) != "dense_f16" || !under_test(kernel.isa, kernel.features)) continue;
    ++ran;
    const LinearKernel& reference = *linear_kernel("dense_f32", kernel.isa);
    for (std::int64_t m : {1, 2, 5, 14, 15, 40}) {
      const std::int64_t n = 70, k = m == 40 ? 900 : 333;
      Random random(static_cast<std::uint64_t>(m));
      std::vector<std::uint16_t> codes(static_cast<std::size_t>(n * k));
      for (std::uint16_t& code : codes) code = random.below(9) == 0 ? random.below(0x400) : random_half(random);
      std::vector<float> x(static_cast<std::size_t>(m * k));
      for (float& value : x) value = random.uniform(-2, 2);
      WeightSource source(k);
      source.add("w", part_of(n, codes), n * k);
      const auto a = run(kernel, *kernel.pack(source), x, m), b = run(reference, *reference.pack(source), x, m);
      CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0, isa_name(kernel.isa) << " m=" << m);
    }
  }
  CHECK(ran != 0, "no kernel could run");
}

TEST(f16_auto_forms_by_sparsity) {
  for (int zeros : {0, 60, 76}) {
    std::vector<std::uint16_t> codes(100, 0x3c00);
    for (int i = 0; i < zeros; ++i) codes[static_cast<std::size_t>(i)] = 0;
    WeightSource source(25);
    source.add("w", part_of(4, codes), 100);
    const std::vector<FormChoice> forms = auto_forms(source, active_isa());
    CHECK(forms.size() == 1 && forms[0].format == std::string(zeros >= 75 ? "csr_f32" : "dense_f16"), zeros << "%: " << forms[0].format);
  }
}

}  // namespace
}  // namespace aerogel
