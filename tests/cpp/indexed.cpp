// Weights stored as indices (4-bit, codebooks) and as int8 codes with a scale each group: what a source decodes them to, against
// plain loops, and what it refuses.
#include <cmath>
#include <string>

#include "base/aligned.h"
#include "base/error.h"
#include "check.h"
#include "isas.h"
#include "kernels/table.h"

namespace aerogel {
namespace {

using namespace testing;

// A random indexed part and, one number at a time, what it stands for.
struct Indexed {
  std::int64_t rows, k, group, groups;
  int bits;
  std::vector<std::int8_t> levels, zero, codes;       // codes [rows, k]
  std::vector<std::uint8_t> indices, multiplier, mask, flat;  // flat [rows, k]: one index a byte, kNotStored outside the mask
  std::vector<float> scale;
  bool masked;

  Indexed(std::uint64_t seed, int index_bits, std::int64_t r, std::int64_t columns, std::int64_t g, bool with_mask, bool multipliers, bool zeros)
      : rows(r), k(columns), group(g), groups(g == 0 ? 1 : (columns + g - 1) / g), bits(index_bits), masked(with_mask) {
    Random random(seed);
    const auto count = static_cast<int>(1 + random.below(1 << bits));
    // |level - zero| * multiplier stays within 127
    const int most = multipliers ? 9 : 100, range = zeros ? 3 : 0;
    for (int i = 0; i < count; ++i) levels.push_back(static_cast<std::int8_t>(random.below(2 * most + 1) - most));
    if (multipliers) for (std::int64_t i = 0; i < rows * groups; ++i) multiplier.push_back(static_cast<std::uint8_t>(random.below(127 / (most + range) + 1)));
    if (zeros) for (std::int64_t i = 0; i < rows * groups; ++i) zero.push_back(static_cast<std::int8_t>(random.below(2 * range + 1) - range));
    for (std::int64_t i = 0; i < rows; ++i) scale.push_back(random.uniform(0.01f, 1.0f));
    mask.assign(static_cast<std::size_t>(rows * ((k + 7) / 8)), 0);
    std::int64_t bit = 0;
    const std::int64_t keep = random.below(4) == 0 ? 0 : 1 + random.below(100);
    for (std::int64_t n = 0; n < rows; ++n) {
      if (!masked) bit = static_cast<std::int64_t>(indices.size()) * 8;
      for (std::int64_t c = 0; c < k; ++c) {
        if (masked && random.below(100) >= keep) {
          flat.push_back(WeightSource::kNotStored), codes.push_back(0);
          continue;
        }
        mask[static_cast<std::size_t>(n * ((k + 7) / 8) + c / 8)] |= static_cast<std::uint8_t>(1u << (c % 8));
        const auto index = static_cast<std::uint8_t>(random.below(count));
        const std::int64_t g_of = n * groups + (group == 0 ? 0 : c / group);
        const int z = zeros ? zero[static_cast<std::size_t>(g_of)] : 0, m = multipliers ? multiplier[static_cast<std::size_t>(g_of)] : 1;
        flat.push_back(index), codes.push_back(static_cast<std::int8_t>((levels[index] - z) * m));
        for (int b = 0; b < bits; ++b, ++bit) {
          if (bit / 8 == static_cast<std::int64_t>(indices.size())) indices.push_back(0);
          if ((index >> b & 1) != 0) indices[static_cast<std::size_t>(bit / 8)] |= static_cast<std::uint8_t>(1u << (bit % 8));
        }
      }
    }
    if (indices.empty()) indices.reserve(1);  // an address, nothing behind it
  }

  std::int64_t bytes() const { return static_cast<std::int64_t>(indices.size()); }

  WeightSource::Part part() const {
    WeightSource::Part p;
    p.rows = rows, p.group = group, p.index_bits = bits, p.levels = levels, p.index = indices.data(), p.scale = scale.data();
    if (!multiplier.empty()) p.multiplier = multiplier.data();
    if (!zero.empty()) p.zero = zero.data();
    if (masked) p.mask = mask.data();
    return p;
  }
};

std::vector<Indexed> some() {
  std::vector<Indexed> all;
  std::uint64_t seed = 0;
  for (int bits = 1; bits <= 8; ++bits)
    for (const bool masked : {false, true})
      for (const std::int64_t k : {1, 3, 8, 33, 64, 130, 200})
        for (const std::int64_t group : {0, 8, 32, 64, 136}) {
          ++seed;
          all.emplace_back(seed, bits, 1 + static_cast<std::int64_t>(seed % 7), k, group, masked, seed % 2 == 0, seed % 3 == 0);
        }
  return all;
}

TEST(indexed_decodes_to_codes) {
  for (const Indexed& w : some()) {
    WeightSource source(w.k);
    source.add("w", w.part(), w.bytes());
    std::int64_t nonzeros = 0;
    for (const std::int8_t code : w.codes) nonzeros += code != 0;
    CHECK(source.quantized() && !source.grouped() && std::string(source.numbers()) == "int8", "kind");
    CHECK(source.nonzeros() == nonzeros, "bits=" << w.bits << " k=" << w.k << ": " << source.nonzeros() << " of " << nonzeros);
    CHECK(source.four_bit() == (w.levels.size() <= 16), w.levels.size());
    std::vector<std::int8_t> codes(static_cast<std::size_t>(w.k));
    std::vector<std::uint8_t> index(static_cast<std::size_t>(w.k));
    std::vector<float> floats(static_cast<std::size_t>(w.k));
    for (std::int64_t n = 0; n < w.rows; ++n) {
      source.row_q8(n, codes.data());
      source.row_f32(n, floats.data());
      const WeightSource::RowQ4 row = source.row_q4(n, index.data());
      for (std::int64_t c = 0; c < w.k; ++c) {
        const auto at = static_cast<std::size_t>(n * w.k + c), column = static_cast<std::size_t>(c);
        CHECK(codes[column] == w.codes[at], "bits=" << w.bits << " at " << n << ", " << c << ": " << int{codes[column]} << ", expected " << int{w.codes[at]});
        CHECK(floats[column] == static_cast<float>(w.codes[at]) * w.scale[static_cast<std::size_t>(n)], "floats at " << n << ", " << c);
        CHECK(w.bits == 8 || index[column] == w.flat[at], "index at " << n << ", " << c);
        if (w.bits == 8 || index[column] == WeightSource::kNotStored) continue;
        const std::int64_t g = c / row.group;
        const int z = row.zero == nullptr ? 0 : row.zero[g], m = row.multiplier == nullptr ? 1 : row.multiplier[g];
        CHECK((row.levels[index[column]] - z) * m == w.codes[at] && row.count == static_cast<int>(w.levels.size()), "taken apart at " << n << ", " << c);
      }
      CHECK(row.scale == w.scale[static_cast<std::size_t>(n)] && source.scale(n) == row.scale, "scale of " << n);
    }
  }
}

// Every kernel of int8 weights runs indices as it runs the codes that they stand for, stacked on plain codes too.
TEST(indexed_runs_in_every_int8_kernel) {
  for (const bool masked : {false, true}) {
    const Indexed w(masked ? 5 : 6, 4, 19, 200, 64, masked, true, true);
    WeightSource indexed(w.k), plain(w.k);
    WeightSource::Part codes;
    codes.rows = w.rows, codes.q8 = w.codes.data(), codes.scale = w.scale.data();
    indexed.add("indices", w.part(), w.bytes());
    indexed.add("codes", codes, w.rows * w.k);
    plain.add("codes", codes, w.rows * w.k);
    plain.add("codes", codes, w.rows * w.k);
    CHECK(!indexed.four_bit() && indexed.nonzeros() == plain.nonzeros(), "stacked");
    const std::int64_t m = 5, ldx = round_up<std::int64_t>(w.k, 64), n = 2 * w.rows;
    auto x = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(m * ldx));
    Random random(1);
    for (std::int64_t t = 0; t < m; ++t)
      for (std::int64_t c = 0; c < w.k; ++c) x[static_cast<std::size_t>(t * ldx + c)] = static_cast<std::int8_t>(random.below(255) - 127);
    const std::vector<float> x_scale(static_cast<std::size_t>(m), 0.01f);
    for (const LinearKernel& kernel : linear_kernels()) {
      if (!holds_int8(kernel) || !under_test(kernel.isa, kernel.features)) continue;
      std::vector<float> y[2];
      for (const bool which : {false, true}) {
        const std::unique_ptr<Weight> weight = kernel.pack(which ? indexed : plain);
        AlignedBuffer<std::uint8_t> scratch(weight->scratch_bytes(m) + 64);
        y[which].resize(static_cast<std::size_t>(m * n));
        kernel.run({weight->view(), x.data(), x_scale.data(), ldx, m, 0, weight->units(), nullptr, y[which].data(), n, scratch.data()});
      }
      CHECK(y[0] == y[1], kernel.format << "/" << isa_name(kernel.isa));
    }
  }
}

TEST(grouped_q8_source) {
  const std::int64_t rows = 3, k = 70, group = 32, groups = 3;
  std::vector<std::int8_t> codes;
  std::vector<float> scale;
  for (std::int64_t i = 0; i < rows * k; ++i) codes.push_back(static_cast<std::int8_t>(i % 255 - 127));
  for (std::int64_t i = 0; i < rows * groups; ++i) scale.push_back(0.5f + static_cast<float>(i));
  WeightSource::Part part;
  part.rows = rows, part.q8 = codes.data(), part.scale = scale.data(), part.group = group;
  WeightSource source(k);
  source.add("w", part, rows * k);
  CHECK(source.grouped() && !source.quantized() && source.group() == group && std::string(source.numbers()) == "int8g", "kind");
  std::vector<std::int8_t> row(static_cast<std::size_t>(k));
  std::vector<float> row_scale(static_cast<std::size_t>(groups)), floats(static_cast<std::size_t>(k));
  for (std::int64_t n = 0; n < rows; ++n) {
    source.row_q8g(n, row.data(), row_scale.data());
    source.row_f32(n, floats.data());
    for (std::int64_t c = 0; c < k; ++c) {
      const auto column = static_cast<std::size_t>(c);
      const float s = scale[static_cast<std::size_t>(n * groups + c / group)];
      CHECK(row[column] == codes[static_cast<std::size_t>(n * k + c)] && row_scale[column / group] == s, n << ", " << c);
      CHECK(floats[column] == static_cast<float>(row[column]) * s, n << ", " << c);
    }
  }
  for (const LinearKernel& kernel : linear_kernels()) {
    if (std::string(kernel.format) != "dense_f32" || !under_test(kernel.isa, kernel.features)) continue;
    kernel.pack(source)->row_f32(1, floats.data());
    CHECK(floats[69] == static_cast<float>(codes[139]) * scale[5], isa_name(kernel.isa));
  }
}

template <class Expected>
void refused(const WeightSource::Part& part, std::int64_t k, std::int64_t values, const std::string& words) {
  try {
    WeightSource(k).add("w", part, values);
  } catch (const Expected& error) {
    CHECK(std::string(error.what()).find(words) != std::string::npos, error.what() << " does not say: " << words);
    return;
  }
  CHECK(false, "not refused: " << words);
}

TEST(indexed_source_refuses) {
  const std::vector<std::uint8_t> index = {0x10, 0x32, 0x10, 0x32}, multiplier = {18, 19}, mask = {0x0f, 0x0f};
  const std::vector<std::int8_t> zero = {0, 0}, codes(8, 1);
  std::vector<float> scale = {1, 1};
  WeightSource::Part good;
  good.rows = 2, good.index = index.data(), good.index_bits = 4, good.levels = {-7, 0, 3, 6}, good.scale = scale.data();
  WeightSource source(4);
  source.add("w", good, 4);
  CHECK(source.nonzeros() == 6 && source.four_bit(), "a good one");
  const auto with = [&](const auto& change) {
    WeightSource::Part part = good;
    change(part);
    return part;
  };
  refused<DataError>(good, 4, 3, "expected 4 bytes of indices, got 3");
  refused<DataError>(good, 5, 4, "expected 6 bytes of indices, got 4");
  refused<DataError>(with([&](auto& p) { p.mask = mask.data(); }), 5, 3, "expected 4 bytes of indices, got 3");
  refused<DataError>(with([&](auto& p) { p.mask = mask.data(); }), 3, 4, "marks columns beyond 3");
  refused<DataError>(with([](auto& p) { p.levels = {1, 2, 3}; }), 4, 4, "an index in row 0 is 3, expected less than 3");
  refused<DataError>(with([](auto& p) { p.levels.clear(); }), 4, 4, "expected 1 to 16 levels");
  refused<DataError>(with([](auto& p) { p.levels.resize(17); }), 4, 4, "expected 1 to 16 levels, as many as an index can tell apart, got 17");
  for (const int bits : {-1, 0, 9}) refused<DataError>(with([&](auto& p) { p.index_bits = bits; }), 4, 4, "indices of 1 to 8 bits");
  refused<DataError>(with([](auto& p) { p.levels = {-128, 0, 0, 0}; }), 4, 4, "a code in row 0 decodes to 128 in magnitude");
  refused<DataError>(with([&](auto& p) { p.multiplier = multiplier.data(); }), 4, 4, "a code in row 1 decodes to 133");
  refused<ShapeError>(with([](auto& p) { p.group = 12; }), 4, 4, "groups of a multiple of 8 columns, got 12");
  refused<ShapeError>(with([](auto& p) { p.group = -8; }), 4, 4, "groups of a multiple of 8 columns, got -8");
  refused<DataError>(with([](auto& p) { p.scale = nullptr; }), 4, 4, "need a scale per row");
  refused<DataError>(with([&](auto& p) { p.q8 = codes.data(); }), 4, 4, "expected either float");
  WeightSource::Part other;
  other.rows = 2, other.q8 = codes.data(), other.scale = scale.data();
  const auto q8_with = [&](const auto& change) {
    WeightSource::Part part = other;
    change(part);
    return part;
  };
  refused<DataError>(q8_with([&](auto& p) { p.multiplier = multiplier.data(); }), 4, 8, "go with indices");
  refused<DataError>(q8_with([&](auto& p) { p.zero = zero.data(); }), 4, 8, "go with indices");
  refused<DataError>(q8_with([](auto& p) { p.levels = {1}; }), 4, 8, "go with indices");
  for (const float bad : {NAN, INFINITY, -1.0f}) {
    scale[1] = bad;
    refused<DataError>(good, 4, 4, "scale of row 1");
    scale[1] = 1.0f;
  }
  WeightSource::Part floats;
  const std::vector<float> values(8, 1.0f);
  floats.rows = 2, floats.f32 = values.data(), floats.group = 8;
  refused<DataError>(floats, 4, 8, "float values have no groups");
  for (const std::int64_t group : {0, 16}) {  // what differs in its scales cannot be stacked
    WeightSource stacked(8);
    WeightSource::Part a = other, b = other;
    a.rows = b.rows = 1, a.group = 8, b.group = group;
    stacked.add("a", a, 8);
    try {
      stacked.add("b", b, 8);
    } catch (const DataError&) {
      continue;
    }
    CHECK(false, "stacked groups of 8 on " << group);
  }
}

// Anything at all in the indices, levels, multipliers and zero points: refused, or decoded to codes in [-127, 127].
TEST(indexed_fuzz) {
  Random random(9);
  int taken = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::int64_t k = 1 + random.below(80), rows = 1 + random.below(4), group = random.below(2) * 8 * (1 + random.below(4));
    const std::int64_t groups = group == 0 ? 1 : (k + group - 1) / group;
    WeightSource::Part part;
    part.rows = rows, part.group = group, part.index_bits = static_cast<int>(1 + random.below(8));
    part.levels.resize(static_cast<std::size_t>(1 + random.below(1 << part.index_bits)));
    const bool small = random.below(4) != 0;
    for (std::int8_t& level : part.levels) level = static_cast<std::int8_t>(small ? random.below(11) - 5 : random.below(256) - 128);
    if (small) part.levels.resize(std::size_t{1} << part.index_bits);
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(rows * ((k + 7) / 8))), multiplier(static_cast<std::size_t>(rows * groups));
    std::vector<std::int8_t> zero(multiplier.size());
    std::int64_t stored = 0;
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t c = 0; c < k; ++c)
        if (random.below(3) == 0) mask[static_cast<std::size_t>(n * ((k + 7) / 8) + c / 8)] |= static_cast<std::uint8_t>(1u << (c % 8)), ++stored;
    for (std::uint8_t& m : multiplier) m = static_cast<std::uint8_t>(small ? random.below(13) : random.below(256));
    for (std::int8_t& z : zero) z = static_cast<std::int8_t>(small ? random.below(11) - 5 : random.below(256) - 128);
    const std::vector<float> scale(static_cast<std::size_t>(rows), 1.0f);
    part.scale = scale.data();
    if (random.below(2) == 0) part.multiplier = multiplier.data();
    if (random.below(2) == 0) part.zero = zero.data();
    if (random.below(2) == 0) part.mask = mask.data();
    const std::int64_t bytes = part.mask != nullptr ? (stored * part.index_bits + 7) / 8 : rows * ((k * part.index_bits + 7) / 8);
    // Of exactly this size, so that the address sanitizer sees a read beyond it.
    const std::unique_ptr<std::uint8_t[]> index(new std::uint8_t[static_cast<std::size_t>(bytes)]);
    for (std::int64_t i = 0; i < bytes; ++i) index[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(random.next());
    part.index = index.get();
    WeightSource source(k);
    try {
      source.add("w", part, bytes - (random.below(50) == 0 ? 1 : 0));
    } catch (const Error&) {
      continue;
    }
    ++taken;
    std::vector<std::int8_t> row(static_cast<std::size_t>(k));
    std::vector<std::uint8_t> flat(static_cast<std::size_t>(k));
    std::int64_t nonzeros = 0;
    for (std::int64_t n = 0; n < rows; ++n) {
      source.row_q8(n, row.data());
      (void)source.row_q4(n, flat.data());
      for (std::int64_t c = 0; c < k; ++c) {
        nonzeros += row[static_cast<std::size_t>(c)] != 0;
        CHECK(row[static_cast<std::size_t>(c)] != -128 && (flat[static_cast<std::size_t>(c)] == WeightSource::kNotStored || flat[static_cast<std::size_t>(c)] < part.levels.size()), "round " << round);
      }
    }
    CHECK(nonzeros == source.nonzeros(), "round " << round << ": " << nonzeros << " and " << source.nonzeros());
  }
  CHECK(taken > 2000 && taken < 19000, taken << " were taken");
}

}  // namespace
}  // namespace aerogel
