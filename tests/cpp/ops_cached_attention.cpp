// Rows that are kept, and attention over them: bit for bit that of the same instruction set over the numbers that are kept, wherever
// blocks begin and end. Only where few queries multiply int8 rows, whose scales come after the sum, it is a bound.
#include <algorithm>
#include <sstream>

#include "base/f16.h"
#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

const char* name_of(Kept numbers) { return numbers == Kept::float32 ? "float32" : numbers == Kept::float16 ? "float16" : "int8"; }

// Blocks of two heads' keys and values, full of NaNs at first.
struct Blocks {
  std::int64_t d;
  Kept numbers;
  KeptPlace keys, values;
  std::vector<AlignedBuffer<std::uint8_t>> memory;
  std::vector<std::uint8_t*> begins;

  Blocks(std::int64_t tokens, std::int64_t width, Kept kept) : d(width), numbers(kept) {
    const std::int64_t rows = 2 * kKeptTokens * kept_row_bytes(kept, d), scales = 2 * kKeptTokens * 4;
    keys = {0, 2 * rows};
    values = {rows, 2 * rows + scales};
    for (std::int64_t t = 0; t < tokens; t += kKeptTokens) {
      memory.emplace_back(static_cast<std::size_t>(2 * rows + 2 * scales));
      std::memset(memory.back().data(), 0xff, memory.back().size());
      begins.push_back(memory.back().data());
    }
  }
  KeptPlace of_head(const KeptPlace& place, std::int64_t head) const {
    return {place.at + head * kKeptTokens * kept_row_bytes(numbers, d), place.scales + head * kKeptTokens * 4};
  }
  // The numbers of a head that are kept, [tokens, d].
  std::vector<float> widened(const KeptPlace& place, std::int64_t head, std::int64_t tokens) const {
    std::vector<float> out(static_cast<std::size_t>(tokens * d));
    const KeptPlace own = of_head(place, head);
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t c = 0; c < d; ++c) {
        const std::uint8_t* const block = begins[t / kKeptTokens];
        const std::int64_t at = t % kKeptTokens * d + c;
        if (numbers == Kept::float32) out[t * d + c] = reinterpret_cast<const float*>(block + own.at)[at];
        else if (numbers == Kept::float16) out[t * d + c] = f16_to_float(reinterpret_cast<const std::uint16_t*>(block + own.at)[at]);
        else out[t * d + c] = static_cast<float>(reinterpret_cast<const std::int8_t*>(block + own.at)[at]) * reinterpret_cast<const float*>(block + own.scales)[t % kKeptTokens];
      }
    return out;
  }
};

TEST(ops_keep_rows) {
  for (Isa isa : tested_isas())
    for (Kept numbers : {Kept::float32, Kept::float16, Kept::int8})
      for (std::int64_t d : {1, 7, 8, 16, 31, 33, 64, 80, 128, 256, 300}) {
        Random random(static_cast<std::uint64_t>(d));
        constexpr std::int64_t kRows = 70, kPosition = 59;
        const std::int64_t ld = 2 * d + 3;
        std::vector<float> x = random_floats(random, kRows * ld, -9.0f, 9.0f);
        for (std::int64_t c = 0; c < d; ++c) x[5 * ld + c] = 0.0f;          // a row of zeros
        for (std::int64_t c = 0; c < d; ++c) x[6 * ld + c] *= 1e-7f;        // subnormal as f16
        x[7 * ld] = 70000.0f, x[8 * ld] = -1e30f, x[9 * ld] = 65519.0f;  // beyond f16
        Blocks got(kPosition + kRows, d, numbers), expected(kPosition + kRows, d, numbers);
        const auto keep = [&](Isa by, Blocks& to) { ops_for(by).keep_rows({x.data(), ld, kRows, 2, d, numbers, to.begins.data(), kPosition, to.keys}); };
        keep(isa, got);
        keep(Isa::scalar, expected);
        for (std::size_t b = 0; b < got.memory.size(); ++b)
          CHECK(std::memcmp(got.begins[b], expected.begins[b], got.memory[b].size()) == 0, "keep_rows " << isa_name(isa) << " " << name_of(numbers) << " d " << d << " block " << b);
        if (isa != Isa::scalar) continue;
        for (std::int64_t head : {0, 1}) {
          const std::vector<float> kept = got.widened(got.keys, head, kPosition + kRows);
          for (std::int64_t t = 0; t < kRows; ++t)
            for (std::int64_t c = 0; c < d; ++c) {
              const float value = x[t * ld + head * d + c], row = kept[(kPosition + t) * d + c];
              if (numbers == Kept::float32) CHECK(same_bits(row, value), row << " and " << value);
              else if (numbers == Kept::float16 && std::fabs(value) < 65504.0f) CHECK(std::fabs(row - value) <= std::fmax(std::ldexp(1.0f, -25), std::fabs(value) * 0.00048828125f), row << " and " << value);
              else if (numbers == Kept::float16) CHECK(row == std::copysign(65504.0f, value), row << " and " << value);
              else if (t < 7) CHECK(std::fabs(row - value) <= 9.0f / 253, row << " and " << value);
            }
        }
      }
}

// Not cut: what is no number must not become one.
TEST(ops_keep_rows_of_infinities) {
  for (Isa isa : tested_isas())
    for (Kept numbers : {Kept::float32, Kept::float16, Kept::int8})
      for (std::int64_t d : {3, 40})
        for (float poison : {INFINITY, -INFINITY}) {
          std::vector<float> x(static_cast<std::size_t>(2 * d), 1.0f);
          x[2] = x[d - 1] = poison;
          Blocks kept(1, d, numbers);
          ops_for(isa).keep_rows({x.data(), 2 * d, 1, 2, d, numbers, kept.begins.data(), 0, kept.keys});
          const std::vector<float> row = kept.widened(kept.keys, 0, 1), clean = kept.widened(kept.keys, 1, 1);
          for (std::int64_t c = 0; c < d; ++c) {
            const bool spoilt = numbers == Kept::int8 || x[c] == poison;
            CHECK(std::isfinite(row[c]) == !spoilt && clean[c] == 1.0f, isa_name(isa) << " " << name_of(numbers) << " d " << d << " [" << c << "]: " << row[c]);
          }
        }
}

TEST(f16_rounds_half_to_even_what_is_not_one) {
  for (std::uint32_t i = 0; i < 0x7bff; ++i) {
    const auto code = static_cast<std::uint16_t>(i), next = static_cast<std::uint16_t>(i + 1);
    const float low = f16_to_float(code), high = f16_to_float(next), half = low + (high - low) / 2;  // exact
    CHECK(float_to_f16(low) == code && float_to_f16(-low) == (code | 0x8000), std::hex << i);
    CHECK(float_to_f16(half) == (i % 2 == 0 ? code : next), std::hex << i);
    CHECK(float_to_f16(std::nextafter(half, low)) == code && float_to_f16(std::nextafter(half, high)) == next, std::hex << i);
  }
  CHECK(float_to_f16(65504.0f) == 0x7bff && float_to_f16(65536.0f) == 0x7bff && float_to_f16(-1e30f) == 0xfbff, "what is too large");
  CHECK(std::isnan(f16_to_float(float_to_f16(std::nanf("")))) && std::isnan(f16_to_float(float_to_f16(-INFINITY))), "what is no number");
}

struct Case {
  std::int64_t queries, tokens, d, heads = 1;
  std::int64_t window = -1, first = 0;  // first: of the tokens that are keys
  bool adjusted = false;
};

void check(Isa isa, Kept numbers, const Case& c) {
  Random random(static_cast<std::uint64_t>(c.queries * 31 + c.tokens * 1009 + c.d));
  const std::int64_t width = c.heads * c.d, keys = c.tokens - c.first;
  const std::vector<float> q = random_floats(random, c.queries * width, -2.0f, 2.0f), x = random_floats(random, c.tokens * 4 * c.d, -2.0f, 2.0f);
  Blocks blocks(c.tokens, c.d, numbers);
  // Rows before `first` stay NaNs.
  KeepTask keep{x.data(), 4 * c.d, keys, 2, c.d, numbers, blocks.begins.data(), c.first, blocks.keys};
  ops_for(isa).keep_rows(keep);
  keep.x += 2 * c.d;
  keep.place = blocks.values;
  ops_for(isa).keep_rows(keep);
  const std::vector<float> k = blocks.widened(blocks.keys, 1, c.tokens), v = blocks.widened(blocks.values, 1, c.tokens);

  const std::size_t bytes = attention_scratch_bytes(c.queries, keys, c.d, c.window >= 0);
  AlignedBuffer<std::uint8_t> scratch(bytes + 64);
  std::memset(scratch.data(), 0xff, scratch.size());
  const std::vector<float> slopes(static_cast<std::size_t>(c.heads), 0.05f);
  std::vector<float> expected(static_cast<std::size_t>(c.queries * width)), got = expected;
  AttentionTask task{q.data(), width, k.data() + c.first * c.d, c.d, v.data() + c.first * c.d, c.d, c.queries, keys, c.d, c.heads, true, keys - c.queries,
                     1.0f / std::sqrt(static_cast<float>(c.d)), nullptr, expected.data(), width, scratch.data(), c.window};
  if (c.adjusted) task.softcap = 5.0f, task.slopes = slopes.data();
  ops_for(isa).attention(task);
  task.k = task.v = nullptr;
  task.ldk = task.ldv = 0;
  task.y = got.data();
  std::memset(scratch.data(), 0xff, scratch.size());
  ops_for(isa).cached_attention({task, numbers, blocks.begins.data(), c.first, blocks.of_head(blocks.keys, 1), blocks.of_head(blocks.values, 1), blocks.of_head(blocks.keys, 0).at});

  std::ostringstream where;
  where << "cached attention " << isa_name(isa) << " " << name_of(numbers) << " queries " << c.queries << " tokens " << c.tokens << " from " << c.first << " d " << c.d << " heads " << c.heads << " window " << c.window;
  for (std::size_t i = bytes; i < scratch.size(); ++i) CHECK(scratch[i] == 0xff, where.str() << " wrote beyond its scratch");
  const bool exact = numbers != Kept::int8 || c.queries >= 5 || isa == Isa::scalar;
  for (std::size_t i = 0; i < got.size(); ++i)
    CHECK(exact ? same_bits(got[i], expected[i]) : std::fabs(got[i] - expected[i]) <= 1e-5f, where.str() << " [" << i << "]: " << got[i] << ", expected " << expected[i]);
}

TEST(ops_cached_attention) {
  for (Isa isa : tested_isas())
    for (Kept numbers : {Kept::float32, Kept::float16, Kept::int8}) {
      for (std::int64_t d : {1, 8, 12, 31, 33, 64, 80, 128, 256})
        for (std::int64_t queries : {1, 3, 5, 13})
          for (std::int64_t tokens : {13, 64, 65, 150})
            check(isa, numbers, {queries, tokens, d, 1 + d % 4});
      for (std::int64_t queries : {1, 4, 50})
        for (std::int64_t first : {1, 37, 63, 64, 130})
          for (std::int64_t window : {-1, 3, 20})
            check(isa, numbers, {queries, 200, 24, 3, window, first, window == 3});
      check(isa, numbers, {128, 700, 64});
      for (std::int64_t tokens : {kAttentionPart + 13, kAttentionPart + 70, 2 * kAttentionPart + 20}) check(isa, numbers, {14, tokens, 20, 3, -1, 0, tokens % 2 == 1});
      check(isa, numbers, {1, 2001, 64, 3});
    }
}

}  // namespace
}  // namespace aerogel
