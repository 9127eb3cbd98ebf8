// bf16 weights: rounding, what a source of them refuses, and that the kernels compute with exactly the weights that were stored.
#include <cmath>
#include <cstring>
#include <limits>

#include "base/aligned.h"
#include "base/bf16.h"
#include "base/error.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "runtime/packed_linear.h"

namespace aerogel {
namespace {

using namespace testing;

float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

TEST(bf16_rounds_to_nearest_even) {
  struct Row {
    std::uint32_t bits;
    std::uint16_t code;
  };
  for (const Row& row : {Row{0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80},
                         {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82},
                         {0x3fffffff, 0x4000}, {0x00000001, 0x0000}, {0x00008001, 0x0001}, {0x007fffff, 0x0080},
                         {0x7f7f0000, 0x7f7f}, {0x7f7f8000, 0x7f7f}, {0x7f7fffff, 0x7f7f}, {0xff7fffff, 0xff7f},
                         {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0}})
    CHECK(bf16_from_float(from_bits(row.bits)) == row.code,
          std::hex << row.bits << ": expected " << row.code << ", got " << bf16_from_float(from_bits(row.bits)));
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const auto half = static_cast<std::uint16_t>(code);
    if (bf16_is_finite(half)) CHECK(bf16_from_float(bf16_to_float(half)) == half, "not kept: " << std::hex << code);
    CHECK(bf16_is_finite(half) == std::isfinite(bf16_to_float(half)), "finite: " << std::hex << code);
  }
  Random random(1);
  for (int i = 0; i < 100000; ++i) {
    const float value = from_bits(static_cast<std::uint32_t>(random.next()));
    if (std::isfinite(value) && std::fabs(value) >= 0x1p-126f && std::fabs(value) < 0x1.fep127f)
      CHECK(std::fabs(bf16_to_float(bf16_from_float(value)) - value) <= 0x1p-8f * std::fabs(value), "too far: " << value);
  }
}

template <class Expected>
void check_refused(const WeightSource::Part& part, std::int64_t k, std::int64_t values, const std::string& words) {
  try {
    WeightSource(k).add("w", part, values);
  } catch (const Expected& error) {
    CHECK(std::string(error.what()).find(words) != std::string::npos, error.what() << " does not say: " << words);
    return;
  }
  CHECK(false, "not refused: " << words);
}

TEST(bf16_source_refuses_what_kernels_could_not_trust) {
  std::vector<std::uint16_t> codes(6, 0x3f80);
  const float floats[6] = {};
  const std::uint8_t mask[2] = {0x5, 0x3};
  WeightSource::Part part;
  part.rows = 2;
  part.bf16 = codes.data();
  WeightSource source(3);
  source.add("w", part, 6);
  CHECK(source.bf16() && !source.quantized() && source.nonzeros() == 6, "a good one");
  check_refused<DataError>(part, 3, 5, "expected 6 stored values, got 5");
  for (std::uint16_t bad : {0x7f80, 0xff80, 0x7fc0}) {
    codes[4] = bad;
    check_refused<DataError>(part, 3, 6, "value 4 is ");
  }
  codes[4] = 0x8000;  // -0 is a zero
  part.mask = mask;
  check_refused<DataError>(part, 3, 5, "expected 4 stored values, got 5");
  check_refused<DataError>(part, 1, 4, "marks columns beyond 1");
  part.mask = nullptr;
  part.f32 = floats;
  check_refused<DataError>(part, 3, 6, "either float, bf16 or f16 values or int8 codes");
  WeightSource::Part other;
  other.rows = 2;
  other.f32 = floats;
  try {
    source.add("x", other, 6);
    CHECK(false, "float behind bf16 was not refused");
  } catch (const DataError& error) {
    CHECK(std::string(error.what()).find("all be float, all bf16, all f16, all int8 or all blocks") != std::string::npos, error.what());
  }
}

// Every bf16 number but infinities and NaNs comes back from every format that takes floats, dense and behind a mask, as it was
// given; -0 may come back as 0.
TEST(bf16_source_is_not_rounded) {
  const std::int64_t n = 33, k = 1999;
  std::vector<std::uint16_t> codes(static_cast<std::size_t>(n * k)), stored;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(n * ((k + 7) / 8)), 0);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto code = static_cast<std::uint16_t>(i);
    codes[i] = bf16_is_finite(code) && i % 3 != 1 ? code : 0;
    if (codes[i] == 0) continue;
    mask[i / k * ((k + 7) / 8) + i % k / 8] |= static_cast<std::uint8_t>(1u << (i % k % 8));
    stored.push_back(codes[i]);
  }
  WeightSource::Part dense, sparse;
  dense.rows = sparse.rows = n;
  dense.bf16 = codes.data();
  sparse.bf16 = stored.data();
  sparse.mask = mask.data();
  WeightSource both(k);
  both.add("dense", dense, n * k);
  both.add("sparse", sparse, static_cast<std::int64_t>(stored.size()));
  std::vector<float> row(k);
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!refusal(kernel.format, kernel.quantized_x, both).empty() || !under_test(kernel.isa, kernel.features)) continue;
    const std::unique_ptr<Weight> weight = kernel.pack(both);
    CHECK(weight->n() == 2 * n && weight->nonzeros() == both.nonzeros(), kernel.format << " shape");
    for (std::int64_t r = 0; r < 2 * n; ++r) {
      weight->row_f32(r, row.data());
      for (std::int64_t i = 0; i < k; ++i)
        CHECK(row[i] == bf16_to_float(codes[r % n * k + i]), kernel.format << "/" << isa_name(kernel.isa) << " at " << r << ", " << i);
    }
  }
}

std::vector<float> run(const LinearKernel& kernel, const Weight& weight, const std::vector<float>& x, std::int64_t m) {
  std::vector<float> y(static_cast<std::size_t>(m * weight.n()));
  AlignedBuffer<std::uint8_t> scratch(weight.scratch_bytes(m) + 1);
  kernel.run({weight.view(), x.data(), nullptr, weight.k(), m, 0, weight.units(), nullptr, y.data(), weight.n(), scratch.data()});
  return y;
}

// What layout.h promises: on each instruction set dense_bf16 is dense_f32 over the widened weights, bit for bit. Denormals too.
TEST(bf16_dense_equals_dense_f32_of_the_same_weights) {
  int ran = 0;
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::string(kernel.format) != "dense_bf16" || !under_test(kernel.isa, kernel.features)) continue;
    ++ran;
    const LinearKernel& reference = *linear_kernel("dense_f32", kernel.isa);
    for (std::int64_t m : {1, 2, 5, 14, 15, 40}) {
      const std::int64_t n = 70, k = m == 40 ? 900 : 333;
      Random random(static_cast<std::uint64_t>(m));
      std::vector<std::uint16_t> codes(static_cast<std::size_t>(n * k));
      for (std::uint16_t& code : codes) code = bf16_from_float(random.uniform(-1, 1) * (random.below(9) == 0 ? 1e-39f : 1.0f));
      std::vector<float> x(static_cast<std::size_t>(m * k));
      for (float& value : x) value = random.uniform(-2, 2);
      WeightSource::Part part;
      part.rows = n;
      part.bf16 = codes.data();
      WeightSource source(k);
      source.add("w", part, n * k);
      const auto a = run(kernel, *kernel.pack(source), x, m), b = run(reference, *reference.pack(source), x, m);
      CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0, isa_name(kernel.isa) << " m=" << m);
    }
  }
  CHECK(ran != 0, "no kernel could run");
}

TEST(bf16_auto_forms_by_sparsity) {
  for (int zeros : {0, 40, 60, 76, 90}) {
    std::vector<std::uint16_t> codes(100, 0x3f80);
    for (int i = 0; i < zeros; ++i) codes[i] = 0;
    WeightSource::Part part;
    part.rows = 4;
    part.bf16 = codes.data();
    WeightSource source(25);
    source.add("w", part, 100);
    const std::string expected = zeros >= 75 ? "csr_f32" : zeros >= 50 ? "masked_bf16" : "dense_bf16";
    const std::vector<FormChoice> forms = auto_forms(source, active_isa());
    CHECK(forms.size() == 1 && forms[0].format == expected, zeros << "%: " << forms[0].format);
  }
}

}  // namespace
}  // namespace aerogel
