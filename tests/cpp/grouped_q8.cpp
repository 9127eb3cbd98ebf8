// grouped_q8 against plain loops, bit for bit: the int32 sum of each group, then floats in the order that its layout.h states.
#include <cstdlib>
#include <cstring>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"

namespace aerogel {
namespace {

using namespace testing;

constexpr float kCanary = 1234567.0f;

struct Grouped {
  std::int64_t n, k, group, groups;
  std::vector<std::int8_t> codes;
  std::vector<float> scale;

  Grouped(std::int64_t rows, std::int64_t columns, std::int64_t group_columns, int percent_zero, Random& random)
      : n(rows), k(columns), group(group_columns), groups((k + group - 1) / group), codes(static_cast<std::size_t>(n * k)),
        scale(static_cast<std::size_t>(n * groups)) {
    for (std::int64_t i = 0; i < n * k; ++i) {
      const bool extreme = i / k % 5 == 1, empty = i / k % 7 == 3;
      const std::int64_t value = extreme ? 127 * (2 * random.below(2) - 1) : random.below(255) - 127;
      codes[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(empty || random.below(100) < percent_zero ? 0 : value);
    }
    for (float& s : scale) s = random.below(10) == 0 ? 0.0f : random.uniform(0.0f, 0.1f);
  }

  void add_to(WeightSource& source) const {
    WeightSource::Part part;
    part.rows = n;
    part.q8 = codes.data();
    part.scale = scale.data();
    part.group = group;
    source.add("w", part, n * k);
  }
};

void check(const Grouped& m, std::int64_t tokens, Random& random) {
  WeightSource source(m.k);
  m.add_to(source);
  const std::int64_t ldx = round_up<std::int64_t>(m.k, 64) + 64 * random.below(2), ldy = m.n + 3;
  auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(tokens * ldx));
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t c = 0; c < m.k; ++c)
      x[t * ldx + c] = static_cast<std::int8_t>(t % 4 == 0 ? 127 : t % 4 == 1 ? (m.codes[c] < 0 ? -127 : 127) : random.below(255) - 127);
  std::vector<float> x_scale(static_cast<std::size_t>(tokens)), bias(static_cast<std::size_t>(m.n));
  for (float& s : x_scale) s = random.uniform(0.0f, 0.1f);
  for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
  const bool with_bias = random.below(2) == 0;
  std::vector<float> expected(static_cast<std::size_t>(tokens * m.n));
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t r = 0; r < m.n; ++r) {
      float total = 0.0f;
      for (std::int64_t g = 0; g < m.groups; ++g) {
        std::int32_t sum = 0;
        for (std::int64_t c = g * m.group; c < m.k && c < (g + 1) * m.group; ++c) sum += static_cast<std::int32_t>(x[t * ldx + c]) * m.codes[r * m.k + c];
        const float part = m.scale[r * m.groups + g] * static_cast<float>(sum);
        total = total + part;
      }
      const float product = total * x_scale[t];
      expected[t * m.n + r] = with_bias ? product + bias[r] : product;
    }
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::strcmp(kernel.format, "grouped_q8") != 0) continue;
    const std::unique_ptr<Weight> weight = kernel.pack(source);
    CHECK(weight->nonzeros() == source.nonzeros() && weight->cost(0) == 0, "nonzeros");
    std::vector<float> row(static_cast<std::size_t>(m.k)), wanted(static_cast<std::size_t>(m.k));
    for (std::int64_t r = 0; r < m.n; ++r) {
      weight->row_f32(r, row.data());
      source.row_f32(r, wanted.data());
      CHECK(row == wanted, isa_name(kernel.isa) << " unpacks row " << r << " differently");
    }
    if (!under_test(kernel.isa, kernel.features)) continue;
    const std::size_t bytes = weight->scratch_bytes(tokens);
    AlignedBuffer<std::uint8_t> scratch(bytes + 64);
    std::memset(scratch.data(), 0xAB, scratch.size());
    std::vector<float> y(static_cast<std::size_t>(tokens * ldy), kCanary);
    for (std::int64_t unit = 0; unit < weight->units(); unit += 2)
      kernel.run({weight->view(), x.data(), x_scale.data(), ldx, tokens, unit, unit + 2 < weight->units() ? unit + 2 : weight->units(),
                  with_bias ? bias.data() : nullptr, y.data(), ldy, scratch.data()});
    for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xAB, isa_name(kernel.isa) << " wrote beyond its scratch");
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t r = 0; r < ldy; ++r)
        CHECK(y[t * ldy + r] == (r < m.n ? expected[t * m.n + r] : kCanary),
              isa_name(kernel.isa) << " n=" << m.n << " k=" << m.k << " group=" << m.group << " tokens=" << tokens << " at [" << t << ", " << r
                                   << "]: expected " << (r < m.n ? expected[t * m.n + r] : kCanary) << ", got " << y[t * ldy + r]);
  }
}

TEST(grouped_q8_random_problems) {
  Random random(21);
  const std::int64_t groups[] = {16, 32, 48, 64, 96, 128, 240, 512};
  const int rounds = std::getenv("AEROGEL_ISA") == nullptr ? 160 : 40;
  for (int round = 0; round < rounds; ++round) {
    const std::int64_t k = round % 8 == 0 ? 500 + random.below(1500) : 1 + random.below(300);
    check(Grouped(1 + random.below(80), k, groups[round % 8], round % 3 * 40, random), 1 + random.below(round % 2 == 0 ? 8 : 40), random);
  }
}

TEST(grouped_q8_token_counts) {
  Random random(22);
  const Grouped m(35, 700, 64, 0, random);
  for (std::int64_t tokens = 1; tokens <= 26; ++tokens) check(m, tokens, random);
  for (std::int64_t tokens : {95, 97, 200}) check(m, tokens, random);
}

// A group at least as long as the row, whatever its length: the row is one group, also in what pads it.
TEST(grouped_q8_one_group) {
  Random random(25);
  for (std::int64_t k : {1, 5, 8, 15, 16, 17, 30, 33, 100, 511})
    for (std::int64_t group : {round_up<std::int64_t>(k, 8), round_up<std::int64_t>(k, 8) + 8, std::int64_t{512}})
      check(Grouped(35, k, group, 0, random), 7, random);
}

TEST(grouped_q8_refuses) {
  Random random(23);
  const auto why = [](std::int64_t k, std::int64_t group, Random& from) {
    const Grouped m(3, k, group, 0, from);
    WeightSource source(k);
    m.add_to(source);
    return refusal("grouped_q8", true, source);
  };
  CHECK(why(64, 8, random).find("multiple of 16") != std::string::npos, "groups of 8");
  CHECK(why(2000, 528, random).find("at most 512") != std::string::npos, "groups of 528");
  CHECK(why(64, 32, random).empty() && why(20, 64, random).empty() && why(512, 1024, random).empty(), "good ones");
  const Grouped m(3, 64, 32, 0, random);
  WeightSource source(64);
  m.add_to(source);
  for (const char* format : {"dense_q8", "dense_q4", "gathered_q8"}) CHECK(!refusal(format, true, source).empty(), format);
  CHECK(refusal("dense_f32", false, source).empty(), "dense_f32");
}

TEST(grouped_q8_fewer_tokens_never_need_more_scratch) {
  Random random(24);
  const Grouped m(3, 5000, 96, 0, random);
  WeightSource source(5000);
  m.add_to(source);
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::strcmp(kernel.format, "grouped_q8") != 0) continue;
    const std::unique_ptr<Weight> weight = kernel.pack(source);
    for (std::int64_t tokens = 1, last = 0; tokens <= 300; ++tokens) {
      const auto bytes = static_cast<std::int64_t>(weight->scratch_bytes(tokens));
      CHECK(bytes >= last, isa_name(kernel.isa) << ": " << tokens << " tokens");
      last = bytes;
    }
  }
}

}  // namespace
}  // namespace aerogel
