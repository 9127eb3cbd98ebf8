// The formats of 4-bit weights against plain loops over the codes that the source decodes to, bit for bit: integers with and
// without multipliers and zero points, codebooks, dense and behind a mask, on awkward shapes; and what they refuse.
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

bool four_bit_format(const LinearKernel& kernel) {
  return std::strcmp(kernel.format, "dense_q4") == 0 || std::strcmp(kernel.format, "masked_q4") == 0;
}

enum class Kind { symmetric, asymmetric, codebook, offsets };

// One matrix, and what its part borrows.
struct Indices {
  std::int64_t n, k, group, groups;
  bool masked;
  std::vector<std::int8_t> levels;
  std::vector<std::uint8_t> index, multiplier, mask;
  std::vector<std::int8_t> zero, offset;
  std::vector<float> scale;

  Indices(Kind kind, std::int64_t rows, std::int64_t columns, std::int64_t group_columns, int percent_zero, Random& random)
      : n(rows), k(columns), group(group_columns), groups(group == 0 ? 1 : (k + group - 1) / group), masked(percent_zero > 0) {
    for (int i = 0; i < 16; ++i)
      levels.push_back(static_cast<std::int8_t>(kind == Kind::symmetric ? i - 8 : kind != Kind::codebook ? i : -127 + 17 * i - (i > 7)));
    const int most = kind == Kind::codebook ? 1 : kind == Kind::symmetric ? 127 / 8 : kind == Kind::offsets ? (masked ? 15 : 16) : 127 / 15;
    if (kind != Kind::codebook)
      for (std::int64_t i = 0; i < n * groups; ++i) multiplier.push_back(static_cast<std::uint8_t>(random.below(4) == 0 ? most : 1 + random.below(most)));
    if (kind == Kind::asymmetric)
      for (std::int64_t i = 0; i < n * groups; ++i) zero.push_back(static_cast<std::int8_t>(random.below(16)));
    if (kind == Kind::offsets)  // where it is masked 0 is a value of some matrices' groups, of others' not
      for (const std::uint8_t m : multiplier) {
        const std::int64_t least = std::max(0, 15 - 127 / m), zeros = std::min(127 / m, 15);
        offset.push_back(static_cast<std::int8_t>(masked && k % 2 == 0 ? -m * (least + random.below(zeros - least + 1)) : -127 + random.below(255 - 15 * m)));
      }
    for (std::int64_t i = 0; i < n; ++i) scale.push_back(random.uniform(0.0f, 0.1f));
    std::vector<std::uint8_t> stream;
    if (masked) mask.assign(static_cast<std::size_t>(n * ((k + 7) / 8)), 0);
    std::int64_t stored = 0;
    for (std::int64_t r = 0; r < n; ++r) {
      if (!masked) stored = (stored + 1) / 2 * 2;
      const int zeros = !masked ? 0 : r % 5 == 1 ? 100 : r % 5 == 2 ? 0 : percent_zero;
      for (std::int64_t c = 0; c < k; ++c) {
        if (random.below(100) < zeros) continue;
        if (masked) mask[static_cast<std::size_t>(r * ((k + 7) / 8) + c / 8)] |= static_cast<std::uint8_t>(1 << (c % 8));
        const std::uint8_t value = static_cast<std::uint8_t>(r % 4 == 3 ? 15 * random.below(2) : random.below(16));
        if (stored % 2 == 0) index.push_back(value);
        else index.back() = static_cast<std::uint8_t>(index.back() | value << 4);
        ++stored;
      }
    }
  }

  void add_to(WeightSource& source) const {
    WeightSource::Part part;
    part.rows = n;
    const std::uint8_t nothing = 0;
    part.index = index.empty() ? &nothing : index.data();
    part.index_bits = 4;
    part.levels = levels;
    part.group = group;
    part.multiplier = multiplier.empty() ? nullptr : multiplier.data();
    part.zero = zero.empty() ? nullptr : zero.data();
    part.offset = offset.empty() ? nullptr : offset.data();
    part.scale = scale.data();
    part.mask = masked ? mask.data() : nullptr;
    source.add("w", std::move(part), static_cast<std::int64_t>(index.size()));
  }
};

std::string described(const LinearKernel& kernel, const WeightSource& source, std::int64_t tokens) {
  std::ostringstream text;
  text << kernel.format << "/" << isa_name(kernel.isa) << " n=" << source.n() << " k=" << source.k() << " tokens=" << tokens
       << " sparsity=" << source.sparsity();
  return text.str();
}

// Every kernel that can hold the source; how many did.
int check(const WeightSource& source, std::int64_t tokens, Random& random) {
  const std::int64_t n = source.n(), k = source.k(), ldx = round_up<std::int64_t>(k, 64) + 64 * random.below(2), ldy = n + 3;
  std::vector<std::int8_t> codes(static_cast<std::size_t>(n * k));
  for (std::int64_t r = 0; r < n; ++r) source.row_q8(r, codes.data() + r * k);
  auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(tokens * ldx));
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t c = 0; c < k; ++c)
      x[t * ldx + c] = static_cast<std::int8_t>(t % 4 == 0 ? 127 : t % 4 == 1 ? -127 : t % 4 == 2 ? (codes[c] < 0 ? -127 : 127) : random.below(255) - 127);
  std::vector<float> x_scale(static_cast<std::size_t>(tokens)), bias(static_cast<std::size_t>(n));
  for (float& s : x_scale) s = random.uniform(0.0f, 0.1f);
  for (float& b : bias) b = random.uniform(-1.0f, 1.0f);
  const bool with_bias = random.below(2) == 0;
  std::vector<float> expected(static_cast<std::size_t>(tokens * n));
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t r = 0; r < n; ++r) {
      std::int32_t sum = 0;
      for (std::int64_t c = 0; c < k; ++c) sum += static_cast<std::int32_t>(x[t * ldx + c]) * codes[r * k + c];
      const float factor = x_scale[t] * source.scale(r);
      const float product = static_cast<float>(sum) * factor;
      expected[t * n + r] = with_bias ? product + bias[r] : product;
    }

  int held = 0;
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!four_bit_format(kernel) || !refusal(kernel.format, true, source).empty()) continue;
    const std::unique_ptr<Weight> weight = kernel.pack(source);
    ++held;
    CHECK(weight->n() == n && weight->k() == k && weight->nonzeros() == source.nonzeros(), described(kernel, source, tokens));
    CHECK(weight->cost(0) == 0 && weight->cost(weight->units()) >= weight->cost(weight->units() - 1), "cost");
    std::vector<float> row(static_cast<std::size_t>(k)), wanted(static_cast<std::size_t>(k));
    for (std::int64_t r = 0; r < n; ++r) {
      weight->row_f32(r, row.data());
      source.row_f32(r, wanted.data());
      CHECK(row == wanted, described(kernel, source, tokens) << ": row " << r << " is unpacked differently");
    }
    if (!under_test(kernel.isa, kernel.features)) continue;
    const std::size_t bytes = weight->scratch_bytes(tokens);
    AlignedBuffer<std::uint8_t> scratch(bytes + 64);
    std::memset(scratch.data(), 0xAB, scratch.size());
    std::vector<float> y(static_cast<std::size_t>(tokens * ldy), kCanary);
    const std::int64_t middle = weight->units() / 2;
    for (const std::int64_t begin : {std::int64_t{0}, middle}) {
      const std::int64_t end = begin == 0 ? middle : weight->units();
      if (begin < end)
        kernel.run({weight->view(), x.data(), x_scale.data(), ldx, tokens, begin, end, with_bias ? bias.data() : nullptr, y.data(), ldy,
                    scratch.data()});
      if (middle == 0) break;
    }
    if (middle == 0)
      kernel.run({weight->view(), x.data(), x_scale.data(), ldx, tokens, 0, weight->units(), with_bias ? bias.data() : nullptr, y.data(), ldy,
                  scratch.data()});
    for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xAB, described(kernel, source, tokens) << " wrote beyond its scratch");
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t r = 0; r < ldy; ++r)
        CHECK(y[t * ldy + r] == (r < n ? expected[t * n + r] : kCanary),
              described(kernel, source, tokens) << " at [" << t << ", " << r << "]: expected " << (r < n ? expected[t * n + r] : kCanary)
                                                << ", got " << y[t * ldy + r]);
  }
  return held;
}

// An emulator takes a hundred times as long.
bool slow() { return std::getenv("AEROGEL_ISA") != nullptr; }

TEST(q4_random_problems) {
  Random random(11);
  const std::int64_t groups[] = {0, 32, 64, 96, 128, 256};
  const int zeros[] = {0, 30, 60, 90, 100};
  const int rounds = slow() ? 45 : 270;
  for (int round = 0; round < rounds; ++round) {
    const Kind kind = static_cast<Kind>(round % 4);
    const std::int64_t k = round % 9 == 0 ? 500 + random.below(1200) : 1 + random.below(300);
    const std::int64_t group = kind == Kind::codebook ? 0 : groups[random.below(6)];
    const Indices m(kind, 1 + random.below(90), k, group, zeros[random.below(5)], random);
    WeightSource source(k);
    m.add_to(source);
    // A codebook without 0 can be behind a mask only, offsets without 0 cannot be there.
    CHECK(check(source, 1 + random.below(round % 2 == 0 ? 8 : 45), random) > 0 || (kind == Kind::offsets && m.masked && k % 2 != 0), "no format held round " << round);
  }
}

// Every number of tokens around the tiles, and blocks of tokens that each read the panels again.
TEST(q4_token_counts) {
  Random random(12);
  for (const Kind kind : {Kind::symmetric, Kind::asymmetric, Kind::codebook, Kind::offsets}) {
    const Indices m(kind, 35, 330, kind == Kind::codebook ? 0 : 64, 40, random);
    WeightSource source(330);
    m.add_to(source);
    for (std::int64_t tokens = 1; tokens <= 26; ++tokens) check(source, tokens, random);
    for (std::int64_t tokens : {95, 97, 200}) check(source, tokens, random);
  }
}

// The largest sums, in several chunks.
TEST(q4_many_columns) {
  Random random(13);
  for (std::int64_t k : {511, 768, 1025, 8192, 20001})
    for (const Kind kind : {Kind::symmetric, Kind::asymmetric, Kind::codebook, Kind::offsets}) {
      Indices m(kind, 5, k, kind == Kind::codebook ? 0 : 128, k % 2 == 0 ? 50 : 0, random);
      std::fill(m.index.begin(), m.index.end(), std::uint8_t{0xff});
      if (!m.zero.empty()) std::fill(m.zero.begin(), m.zero.end(), std::int8_t{0});
      WeightSource source(k);
      m.add_to(source);
      for (std::int64_t tokens : {1, 7, 13}) check(source, tokens, random);
    }
}

// Matrices that are stacked: groups of different size, multipliers in one only, codebooks that change at a multiple of 32 rows.
TEST(q4_stacked) {
  Random random(14);
  {
    const Indices a(Kind::symmetric, 20, 300, 128, 0, random), b(Kind::symmetric, 13, 300, 96, 50, random), c(Kind::symmetric, 7, 300, 0, 0, random);
    WeightSource source(300);
    a.add_to(source), b.add_to(source), c.add_to(source);
    CHECK(check(source, 9, random) > 0, "integers");
  }
  for (std::int64_t rows : {64, 40}) {
    const Indices a(Kind::codebook, rows, 100, 0, 20, random);
    Indices b(Kind::codebook, 30, 100, 0, 0, random);
    for (std::int8_t& level : b.levels) level = static_cast<std::int8_t>(level / 2);
    WeightSource source(100);
    a.add_to(source), b.add_to(source);
    const int held = check(source, 9, random);
    CHECK(rows == 64 ? held > 0 : held == 0, "two codebooks, the first of " << rows << " rows");
  }
}

TEST(q4_refuses) {
  Random random(15);
  const auto why = [](const Indices& m, const char* format) {
    WeightSource source(m.k);
    m.add_to(source);
    const std::string said = refusal(format, true, source);
    for (const LinearKernel& kernel : linear_kernels()) {
      if (std::strcmp(kernel.format, format) != 0) continue;
      bool threw = false;
      try {
        kernel.pack(source);
      } catch (const std::exception&) {
        threw = true;
      }
      CHECK(threw == !said.empty(), format << "/" << isa_name(kernel.isa) << ": " << said);
    }
    return said;
  };
  const Indices book(Kind::codebook, 8, 64, 0, 50, random);  // without 0
  CHECK(why(book, "dense_q4").find("0 is not among the levels") != std::string::npos, "a codebook without 0 behind a mask");
  CHECK(why(book, "masked_q4").empty(), "the mask has its zeros");
  Indices odd(Kind::symmetric, 8, 64, 8, 0, random);
  CHECK(why(odd, "dense_q4").find("multiple of 32") != std::string::npos, "groups of 8");
  Indices far(Kind::asymmetric, 8, 64, 32, 0, random);
  std::fill(far.multiplier.begin(), far.multiplier.end(), std::uint8_t{1});
  std::fill(far.zero.begin(), far.zero.end(), std::int8_t{-2});
  CHECK(why(far, "dense_q4").empty(), "17 from its zero: an offset");
  {
    WeightSource source(64);
    far.add_to(source);
    CHECK(check(source, 7, random) > 0, "17 from its zero");
  }
  Indices low = far;
  std::fill(low.multiplier.begin(), low.multiplier.end(), std::uint8_t{10});
  std::fill(low.zero.begin(), low.zero.end(), std::int8_t{15});
  std::fill(low.index.begin(), low.index.end(), std::uint8_t{0xff});
  CHECK(why(low, "dense_q4").find("rise by one from a code in int8 on") != std::string::npos, "-150");
  std::fill(far.zero.begin(), far.zero.end(), std::int8_t{-1});
  CHECK(why(far, "dense_q4").empty(), "16 from its zero");
  CHECK(why(far, "masked_q4").find("0 is not among the levels") != std::string::npos, "no index of 0");
  WeightSource far_source(64);
  far.add_to(far_source);
  CHECK(check(far_source, 7, random) > 0, "16 from its zero");

  // Plain codes are not indices.
  const std::vector<std::int8_t> codes(64, 1);
  const float scale = 1;
  WeightSource::Part part;
  part.rows = 1;
  part.q8 = codes.data();
  part.scale = &scale;
  WeightSource plain(64);
  plain.add("w", part, 64);
  CHECK(!refusal("dense_q4", true, plain).empty() && !refusal("masked_q4", true, plain).empty() && refusal("dense_q8", true, plain).empty(), "plain codes");
}

// Half a byte a weight and 2 bytes a group; or 1/8 and half a byte a nonzero.
TEST(q4_size) {
  Random random(16);
  const Indices dense(Kind::asymmetric, 64, 512, 64, 0, random), sparse(Kind::symmetric, 64, 512, 64, 80, random);
  WeightSource a(512), b(512);
  dense.add_to(a), sparse.add_to(b);
  for (const LinearKernel& kernel : linear_kernels()) {
    const std::int64_t rows = 64, levels = 16 * 64 / (kernel.isa == Isa::avx512vnni ? 32 : kernel.isa == Isa::avx2 ? 16 : 4);
    if (std::strcmp(kernel.format, "dense_q4") == 0)
      CHECK(static_cast<std::int64_t>(kernel.pack(a)->bytes()) == rows * 256 + rows * 8 * 2 + rows * 4 + levels, isa_name(kernel.isa));
    if (std::strcmp(kernel.format, "masked_q4") == 0) {
      const auto bytes = static_cast<std::int64_t>(kernel.pack(b)->bytes()), units = levels / 16;
      const std::int64_t least = rows * 64 + b.nonzeros() / 2 + rows * 8 + rows * 4 + levels + (units + 1) * 8 + 64;
      CHECK(bytes >= least && bytes <= least + units, isa_name(kernel.isa) << ": " << bytes << " bytes, " << least << " expected");
    }
  }
}

TEST(q4_fewer_tokens_never_need_more_scratch) {
  Random random(17);
  for (const Kind kind : {Kind::symmetric, Kind::codebook}) {
    Indices m(kind, 3, 5000, 0, 0, random);
    WeightSource source(5000);
    m.add_to(source);
    for (const LinearKernel& kernel : linear_kernels()) {
      if (!four_bit_format(kernel)) continue;
      const std::unique_ptr<Weight> weight = kernel.pack(source);
      for (std::int64_t tokens = 1, last = 0; tokens <= 300; ++tokens) {
        const auto bytes = static_cast<std::int64_t>(weight->scratch_bytes(tokens));
        CHECK(bytes >= last, kernel.format << "/" << isa_name(kernel.isa) << ": " << tokens << " tokens");
        last = bytes;
      }
    }
  }
}

}  // namespace
}  // namespace aerogel
