// grouped_qn: every kernel against the scalar one bit for bit, the scalar one and what rows decode to against the equation of
// linear/blocks.h in double, for every type of blocks. That blocks are taken apart as ggml does it is tested in Python, against the
// gguf package.
#include <cmath>
#include <cstring>
#include <limits>

#include "base/aligned.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"
#include "linear/blocks.h"
#include "matrix_q8.h"

namespace aerogel {
namespace {

using namespace testing;

constexpr float kCanary = 1234567.0f;

struct Part {
  const BlockType* type;
  std::int64_t n;
  std::vector<std::uint8_t> bytes;
};

// A float16 of moderate size.
void put_half(std::uint8_t* at, Random& random) {
  at[0] = static_cast<std::uint8_t>(random.below(256));
  at[1] = static_cast<std::uint8_t>((random.below(2) << 7) | (20 + random.below(36)));
}

Part random_part(const char* name, std::int64_t n, std::int64_t k, Random& random) {
  Part part{block_type(name), n, {}};
  const BlockType& type = *part.type;
  part.bytes.resize(static_cast<std::size_t>(n * (k / type.columns) * type.bytes));
  for (std::uint8_t& byte : part.bytes) byte = static_cast<std::uint8_t>(random.below(256));
  const std::string text = name;
  const std::size_t scale = text == "Q2_K" ? 80 : text == "Q3_K" ? 108 : text == "Q6_K" ? 208 : 0;
  for (std::size_t at = 0, i = 0; at < part.bytes.size(); at += static_cast<std::size_t>(type.bytes), ++i) {
    std::uint8_t* const block = part.bytes.data() + at;
    if (i % 7 == 3) std::memset(block, 255, static_cast<std::size_t>(type.bytes));  // the largest codes
    if (text == "MXFP4") block[0] = static_cast<std::uint8_t>(i % 9 == 0 ? i % 3 : 110 + random.below(20));
    else put_half(block + scale, random);
    if (type.mins) put_half(block + scale + 2, random);
  }
  return part;
}

WeightSource source_of(const std::vector<Part>& parts, std::int64_t k) {
  WeightSource source(k);
  for (const Part& each : parts) {
    WeightSource::Part part;
    part.rows = each.n;
    part.blocks = each.bytes.data();
    part.block_type = each.type;
    source.add("w", part, static_cast<std::int64_t>(each.bytes.size()));
  }
  return source;
}

std::vector<float> run(const LinearKernel& kernel, const Weight& weight, const std::vector<float>& x, std::int64_t ldx, std::int64_t m,
                       const float* bias) {
  const std::int64_t n = weight.n(), ldy = n + 3;
  const std::size_t bytes = weight.scratch_bytes(m);
  AlignedBuffer<std::uint8_t> scratch(bytes + 64);
  std::memset(scratch.data(), 0xAB, scratch.size());
  std::vector<float> y(static_cast<std::size_t>(m * ldy), kCanary);
  for (std::int64_t unit = 0; unit < weight.units(); unit += 3)
    kernel.run({weight.view(), x.data(), nullptr, ldx, m, unit, std::min(unit + 3, weight.units()), bias, y.data(), ldy, scratch.data()});
  for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xAB, isa_name(kernel.isa) << " wrote beyond its scratch");
  for (std::int64_t t = 0; t < m; ++t)
    for (std::int64_t i = n; i < ldy; ++i) CHECK(y[static_cast<std::size_t>(t * ldy + i)] == kCanary, isa_name(kernel.isa) << " wrote beyond row " << t);
  return y;
}

// x rounded as kernels do it, 32 by 32.
std::vector<double> rounded(const std::vector<float>& x) {
  std::vector<double> result(x.size());
  for (std::size_t i = 0; i < x.size(); i += 32) {
    float largest = 0.0f;
    for (std::size_t c = i; c < i + 32; ++c) largest = std::max(largest, std::fabs(x[c]));
    const float inverse = 127.0f / largest, scale = largest / 127.0f;
    for (std::size_t c = i; c < i + 32; ++c) result[c] = largest == 0.0f ? 0.0 : static_cast<double>(scale) * std::nearbyint(x[c] * inverse);
  }
  return result;
}

void check(const std::vector<Part>& parts, std::int64_t k, std::int64_t m, Random& random) {
  const WeightSource source = source_of(parts, k);
  const std::int64_t n = source.n(), ldx = k;
  std::vector<float> x(static_cast<std::size_t>(m * ldx)), bias(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = i / 32 % 11 == 4 ? 0.0f : i / 32 % 5 == 1 ? (random.below(2) ? 3.0f : -3.0f) : random.uniform(-2.0f, 2.0f);
  for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
  const float* const added = random.below(2) == 0 ? bias.data() : nullptr;
  const std::vector<const LinearKernel*> kernels = kernels_of("grouped_qn");
  const LinearKernel* const reference = linear_kernel("grouped_qn", Isa::scalar);
  const std::unique_ptr<Weight> scalar = reference->pack(source);
  const std::vector<float> expected = run(*reference, *scalar, x, ldx, m, added);
  const std::vector<double> xs = rounded(x);
  std::vector<float> row(static_cast<std::size_t>(k)), wanted(row.size());
  for (std::int64_t r = 0; r < n; ++r) {
    source.row_f32(r, wanted.data());
    scalar->row_f32(r, row.data());
    CHECK(row == wanted, parts[0].type->name << " unpacks row " << r << " differently");
    for (std::int64_t t = 0; t < m; ++t) {
      double sum = added != nullptr ? added[r] : 0.0, magnitude = std::fabs(sum);
      for (std::int64_t c = 0; c < k; ++c) {
        const double product = xs[static_cast<std::size_t>(t * ldx + c)] * wanted[static_cast<std::size_t>(c)];
        sum += product;
        magnitude += std::fabs(product);
      }
      // Minima are subtracted from what they nearly equal: what is rounded may be 32 times what is left.
      const double bound = std::ldexp(1.0, -24) * static_cast<double>(k / 8 + 8) * (magnitude + 1e-30) * 64;
      const float got = expected[static_cast<std::size_t>(t * (n + 3) + r)];
      CHECK(std::fabs(got - sum) <= bound, parts[0].type->name << " at [" << t << ", " << r << "]: expected " << sum << " +- " << bound << ", got " << got);
    }
  }
  for (const LinearKernel* kernel : kernels) {
    const std::unique_ptr<Weight> weight = kernel->pack(source);
    CHECK(weight->nonzeros() == source.nonzeros() && weight->cost(0) == 0 && weight->cost(weight->units()) > 0, "nonzeros");
    if (!under_test(kernel->isa, kernel->features)) continue;
    const std::vector<float> y = run(*kernel, *weight, x, ldx, m, added);
    for (std::size_t i = 0; i < y.size(); ++i)
      CHECK(y[i] == expected[i], parts[0].type->name << " on " << isa_name(kernel->isa) << " n=" << n << " k=" << k << " m=" << m << " at " << i << ": expected "
                                                    << expected[i] << ", got " << y[i]);
  }
}

TEST(grouped_qn_types) {
  Random random(31);
  for (const BlockType& type : all_block_types())
    for (std::int64_t m : {1, 2, 3, 5, 6, 7, 12, 13, 25}) {
      const std::int64_t k = type.columns * (1 + random.below(type.columns == 32 ? 40 : 5));
      check({random_part(type.name, 1 + random.below(60), k, random)}, k, m, random);
    }
}

TEST(grouped_qn_many_tokens) {
  Random random(32);
  for (const char* name : {"Q4_K", "Q6_K", "Q8_0", "IQ4_XS", "Q5_K"}) check({random_part(name, 19, 768, random)}, 768, 130, random);
}

TEST(grouped_qn_stacks_types) {
  Random random(33);
  check({random_part("Q4_K", 40, 512, random), random_part("Q4_K", 9, 512, random), random_part("Q6_K", 24, 512, random), random_part("Q8_0", 3, 512, random)},
        512, 9, random);
}

// What is not a number reaches every output of its token and no other token.
TEST(grouped_qn_poison) {
  Random random(34);
  const std::int64_t k = 512;
  const std::vector<Part> parts{random_part("Q4_K", 20, k, random)};  // sources borrow
  const WeightSource source = source_of(parts, k);
  std::vector<float> x(static_cast<std::size_t>(3 * k), 0.5f);
  x[static_cast<std::size_t>(k + 77)] = std::numeric_limits<float>::infinity();
  for (const LinearKernel* kernel : kernels_of("grouped_qn")) {
    if (!under_test(kernel->isa, kernel->features)) continue;
    const std::unique_ptr<Weight> weight = kernel->pack(source);
    const std::vector<float> y = run(*kernel, *weight, x, k, 3, nullptr);
    for (std::int64_t t = 0; t < 3; ++t)
      for (std::int64_t r = 0; r < 20; ++r) CHECK(std::isnan(y[static_cast<std::size_t>(t * 23 + r)]) == (t == 1), isa_name(kernel->isa) << " token " << t);
  }
}

TEST(grouped_qn_refuses) {
  Random random(35);
  const auto why = [&](std::int64_t k, std::int64_t bytes, std::uint8_t high) -> std::string {
    Part part = random_part("Q4_0", 2, 64, random);
    part.bytes[1] = high;
    WeightSource source(k);
    WeightSource::Part given;
    given.rows = 2;
    given.blocks = part.bytes.data();
    given.block_type = part.type;
    try {
      source.add("w", given, bytes);
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  CHECK(why(64, 72, 0).empty(), "a good one");
  CHECK(why(48, 72, 0).find("multiple of 32") != std::string::npos, "columns");
  CHECK(why(64, 71, 0).find("72 bytes of blocks") != std::string::npos, "bytes");
  CHECK(why(64, 72, 0x7c).find("not finite") != std::string::npos, "infinite");
}

TEST(grouped_qn_fewer_tokens_never_need_more_scratch) {
  Random random(36);
  const std::vector<Part> parts{random_part("Q8_0", 3, 5024, random)};
  const WeightSource source = source_of(parts, 5024);
  for (const LinearKernel* kernel : kernels_of("grouped_qn")) {
    const std::unique_ptr<Weight> weight = kernel->pack(source);
    for (std::int64_t tokens = 1, last = 0; tokens <= 300; ++tokens) {
      const auto bytes = static_cast<std::int64_t>(weight->scratch_bytes(tokens));
      CHECK(bytes >= last, isa_name(kernel->isa) << ": " << tokens << " tokens");
      last = bytes;
    }
  }
}

}  // namespace
}  // namespace aerogel
