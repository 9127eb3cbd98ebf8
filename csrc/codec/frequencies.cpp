#include "codec/frequencies.h"

#include <algorithm>

#include "base/error.h"
#include "codec/bits.h"
#include "codec/step.h"

namespace aerogel {
namespace {

enum Kind : std::uint8_t { kRange = 0, kSet = 1, kPopcount = 2 };
constexpr int kParameters = 13;  // differences are below 2^13

constexpr std::uint32_t kOfPopcount[9] = {1, 8, 28, 56, 70, 56, 28, 8, 1};  // C(8, p)

int popcount(int symbol) {
  int bits = 0;
  for (; symbol != 0; symbol >>= 1) bits += symbol & 1;
  return bits;
}

// log2(v) * 65536, rounded down, v in [1, 2^32). In integers, so that every machine decides alike.
std::uint32_t log2_fixed(std::uint32_t v) {
  std::uint32_t result = 0;
  std::uint64_t m = v;  // grows to [2^31, 2^32)
  for (int exponent = 31; exponent >= 0; --exponent)
    if (v >> exponent != 0) {
      result = static_cast<std::uint32_t>(exponent) << 16;
      m <<= 31 - exponent;
      break;
    }
  for (int bit = 15; bit >= 0; --bit) {
    m = m * m >> 31;
    if (m >> 32 != 0) {
      m >>= 1;
      result |= 1u << bit;
    }
  }
  return result;
}

// Whole numbers that sum up to 4096, near counts[i] * 4096 / sum, at least least[i].
template <std::size_t kSize>
std::array<std::uint32_t, kSize> normalize(const std::array<std::uint64_t, kSize>& counts, const std::array<std::uint32_t, kSize>& least) {
  std::uint64_t total = 0;
  for (std::uint64_t count : counts) total += count;
  std::array<std::uint32_t, kSize> f{};
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < kSize; ++i) {
    f[i] = std::max(least[i], static_cast<std::uint32_t>((counts[i] * kRansTotal + total / 2) / total));
    sum += f[i];
  }
  // One step costs about count / (f -+ 1/2) bits, or saves them: the cheapest first.
  for (; sum > kRansTotal; --sum) {
    std::size_t best = kSize;
    for (std::size_t i = 0; i < kSize; ++i)
      if (f[i] > least[i] && (best == kSize || counts[i] * (2 * f[best] - 1) < counts[best] * (2 * f[i] - 1))) best = i;
    --f[best];
  }
  for (; sum < kRansTotal; ++sum) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < kSize; ++i)
      if (counts[i] * (2 * f[best] + 1) > counts[best] * (2 * f[i] + 1)) best = i;
    ++f[best];
  }
  return f;
}

Frequencies by_symbol(Counts counts) {
  std::array<std::uint32_t, 256> least{};
  int kinds = 0;
  std::size_t only = 0;
  for (std::size_t s = 0; s < 256; ++s)
    if (counts[s] != 0) {
      least[s] = 1;
      only = s;
      ++kinds;
    }
  if (kinds == 1) least[only ^ 1] = 1;  // no symbol may have all: 4096 needs 13 bits in the decoder's table
  const auto wide = normalize(counts, least);
  Frequencies f{};
  for (std::size_t s = 0; s < 256; ++s) f[s] = static_cast<std::uint16_t>(wide[s]);
  return f;
}

Frequencies spread(const std::array<std::uint32_t, 9>& totals) {
  Frequencies f{};
  std::array<std::uint32_t, 9> more{};
  for (std::size_t p = 0; p < 9; ++p) more[p] = totals[p] % kOfPopcount[p];
  for (int s = 0; s < 256; ++s) {
    const auto p = static_cast<std::size_t>(popcount(s));
    f[static_cast<std::size_t>(s)] = static_cast<std::uint16_t>(totals[p] / kOfPopcount[p] + (more[p] != 0 ? 1 : 0));
    if (more[p] != 0) --more[p];
  }
  return f;
}

std::uint64_t bits_of(const Counts& counts, const Frequencies& f) {
  std::uint64_t bits = 0;
  for (std::size_t s = 0; s < 256; ++s)
    if (counts[s] != 0) bits += counts[s] * ((static_cast<std::uint32_t>(kRansBits) << 16) - log2_fixed(f[s]));
  return (bits >> 16) + 1;
}

// The frequencies' differences, zigzag.
std::vector<std::uint32_t> differences(const std::vector<std::uint32_t>& values) {
  std::vector<std::uint32_t> result;
  std::int32_t before = 0;
  for (std::uint32_t value : values) {
    const std::int32_t d = static_cast<std::int32_t>(value) - before;
    result.push_back(static_cast<std::uint32_t>(d >= 0 ? 2 * d : -2 * d - 1));
    before += d;
  }
  return result;
}

void put_listed(BitWriter& writer, const std::vector<std::uint32_t>& zigzag, int r) {
  for (std::uint32_t z : zigzag) {
    for (std::uint32_t ones = z >> r; ones > 0; --ones) writer.put(1, 1);
    writer.put(0, 1);
    writer.put(z, r);
  }
}

int best_parameter(const std::vector<std::uint32_t>& zigzag) {
  int best = 0;
  std::uint64_t least = ~std::uint64_t{0};
  for (int r = 0; r < kParameters; ++r) {
    std::uint64_t bits = 0;
    for (std::uint32_t z : zigzag) bits += (z >> r) + 1u + static_cast<std::uint32_t>(r);
    if (bits < least) {
      least = bits;
      best = r;
    }
  }
  return best;
}

void put_head(BitWriter& writer, Kind kind, int r) {
  writer.put(kind, 2);
  writer.put(static_cast<std::uint64_t>(r), 4);
  writer.put(0, 2);
}

constexpr int symbol_at(int place) { return place ^ 0x80; }  // the place-th signed byte, from -128 up

std::vector<std::uint8_t> write_range(const Frequencies& f) {
  int first = 0, last = 255;
  while (f[static_cast<std::size_t>(symbol_at(first))] == 0) ++first;
  while (f[static_cast<std::size_t>(symbol_at(last))] == 0) --last;
  std::vector<std::uint32_t> values;
  for (int place = first; place <= last; ++place) values.push_back(f[static_cast<std::size_t>(symbol_at(place))]);
  const std::vector<std::uint32_t> zigzag = differences(values);
  const int r = best_parameter(zigzag);
  std::vector<std::uint8_t> text;
  BitWriter writer(text);
  put_head(writer, kRange, r);
  writer.put(static_cast<std::uint64_t>(first), 8);
  writer.put(static_cast<std::uint64_t>(last), 8);
  put_listed(writer, zigzag, r);
  return text;
}

std::vector<std::uint8_t> write_set(const Frequencies& f) {
  std::vector<std::uint32_t> values;
  for (std::uint16_t value : f)
    if (value != 0) values.push_back(value);
  const std::vector<std::uint32_t> zigzag = differences(values);
  const int r = best_parameter(zigzag);
  std::vector<std::uint8_t> text;
  BitWriter writer(text);
  put_head(writer, kSet, r);
  for (std::uint16_t value : f) writer.put(value != 0, 1);
  put_listed(writer, zigzag, r);
  return text;
}

std::vector<std::uint8_t> write_popcount(const std::array<std::uint32_t, 9>& totals) {
  std::vector<std::uint8_t> text;
  BitWriter writer(text);
  put_head(writer, kPopcount, 0);
  for (std::uint32_t total : totals) writer.put(total, 13);
  return text;
}

[[noreturn]] void refuse(const std::string& name, const std::string& what) { throw DataError(name + ": frequencies: " + what); }

// The next frequency of range and set; 4096 if it is none.
std::uint32_t get_listed(BitReader& reader, int r, std::uint32_t before) {
  std::uint32_t ones = 0;
  while (ones <= 2 * kRansTotal && reader.get(1) == 1) ++ones;
  const auto z = static_cast<std::int64_t>(static_cast<std::uint64_t>(ones) << r | reader.get(r));
  const std::int64_t value = before + (z % 2 == 0 ? z / 2 : -(z + 1) / 2);
  return value < 0 || value >= kRansTotal ? kRansTotal : static_cast<std::uint32_t>(value);
}

}  // namespace

ChosenFrequencies choose_frequencies(const Counts& counts) {
  ChosenFrequencies best;
  best.frequencies = by_symbol(counts);
  best.text = write_range(best.frequencies);
  if (std::vector<std::uint8_t> set = write_set(best.frequencies); set.size() < best.text.size()) best.text = std::move(set);
  best.bits = bits_of(counts, best.frequencies);

  std::array<std::uint64_t, 9> classes{};
  std::array<std::uint32_t, 9> least{};
  for (int s = 0; s < 256; ++s) classes[static_cast<std::size_t>(popcount(s))] += counts[static_cast<std::size_t>(s)];
  std::uint64_t others = 0;
  for (std::size_t p = 0; p < 9; ++p) {
    if (classes[p] != 0) least[p] = kOfPopcount[p];
    if (p != 0) others += classes[p];
  }
  if (others == 0 || others == classes[8]) return best;  // only empty and full bytes: nothing to spread
  const auto totals = normalize(classes, least);
  const Frequencies f = spread(totals);
  const std::uint64_t bits = bits_of(counts, f);
  std::vector<std::uint8_t> text = write_popcount(totals);
  if (bits + 8 * text.size() < best.bits + 8 * best.text.size()) best = {f, std::move(text), bits};
  return best;
}

std::size_t read_frequencies(const std::string& name, const std::uint8_t* data, std::size_t bytes, Frequencies& frequencies) {
  BitReader reader(data, bytes);
  frequencies.fill(0);
  const auto kind = reader.get(2);
  const auto r = static_cast<int>(reader.get(4));
  if (reader.get(2) != 0 || r >= kParameters || (kind == kPopcount && r != 0))
    refuse(name, "expected a kind and a parameter, got byte " + std::to_string(bytes == 0 ? 0 : data[0]));
  if (kind == kRange) {
    const auto first = static_cast<int>(reader.get(8)), last = static_cast<int>(reader.get(8));
    if (first > last) refuse(name, "expected first <= last, got " + std::to_string(first) + " and " + std::to_string(last));
    std::uint32_t before = 0;
    for (int place = first; place <= last; ++place) {
      before = get_listed(reader, r, before);
      if (before == kRansTotal) refuse(name, "expected numbers in [0, 4095]");
      frequencies[static_cast<std::size_t>(symbol_at(place))] = static_cast<std::uint16_t>(before);
    }
  } else if (kind == kSet) {
    std::array<bool, 256> occurs{};
    for (bool& there : occurs) there = reader.get(1) == 1;
    std::uint32_t before = 0;
    for (std::size_t s = 0; s < 256; ++s) {
      if (!occurs[s]) continue;
      before = get_listed(reader, r, before);
      if (before == kRansTotal || before == 0) refuse(name, "expected numbers in [1, 4095]");
      frequencies[s] = static_cast<std::uint16_t>(before);
    }
  } else if (kind == kPopcount) {
    std::array<std::uint32_t, 9> totals{};
    for (std::size_t p = 0; p < 9; ++p) {
      totals[p] = static_cast<std::uint32_t>(reader.get(13));
      if (totals[p] > kRansTotal || totals[p] / kOfPopcount[p] >= kRansTotal) refuse(name, "expected numbers below 4096");
    }
    frequencies = spread(totals);
  } else {
    refuse(name, "expected a kind in [0, 2], got 3");
  }
  if (!reader.good()) refuse(name, "truncated");
  if (!reader.rest_is_zero()) refuse(name, "expected zero bits after them");
  std::uint32_t sum = 0;
  for (std::uint16_t f : frequencies) sum += f;
  if (sum != kRansTotal) refuse(name, "expected a sum of 4096, got " + std::to_string(sum));
  return reader.bytes();
}

}  // namespace aerogel
