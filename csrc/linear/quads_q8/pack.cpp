// Packs quads_q8 (layout.h draws it).
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/quads_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

// 255 * 128 fits 16 bits.
constexpr std::int32_t kLight = 128;

// A chunk of 32 tokens fills three quarters of a 32 KB L1.
constexpr std::int64_t kChunk = 768;

// Lists with equal numbers of light pairs.
constexpr std::size_t kEqual = 8;

struct Nonzero {
  std::int32_t column;
  std::int32_t weight;
};

struct Pair {
  Nonzero a, b;
};

class QuadsWeight final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t k);

  QuadsWeight(const WeightSource& source, Scratch scratch)
      : Weight(source.n(), source.k(), source.nonzeros()), scratch_(scratch) {
    QuadsView& v = view_;
    v.n = source.n();
    v.k = source.k();
    v.chunks = (v.k + kChunk - 1) / kChunk;
    v.chunk = round_up<std::int64_t>((v.k + v.chunks - 1) / v.chunks, 64);
    v.chunks = (v.k + v.chunk - 1) / v.chunk;
    const auto lists = static_cast<std::size_t>(v.chunks * v.n), padded = static_cast<std::size_t>(units() * kQuadsRows);
    begin_ = AlignedBuffer<std::uint32_t>(lists + 1);
    light_ = AlignedBuffer<std::uint32_t>(lists);
    offset_ = AlignedBuffer<std::int32_t>::zeros(padded);
    scale_ = AlignedBuffer<float>::zeros(padded);
    row_ = AlignedBuffer<std::uint8_t>(lists);
    // Chunks outside would decode every row as often as there are chunks: sets of rows outside, then the lists are put in order.
    std::vector<std::vector<Quad>> of_chunk(static_cast<std::size_t>(v.chunks));
    for (std::int64_t set = 0; set < v.n; set += kQuadsSet) add_set(source, set, of_chunk);
    std::size_t count = 0;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      for (std::size_t list = static_cast<std::size_t>(chunk * v.n); list < static_cast<std::size_t>((chunk + 1) * v.n); ++list) {
        begin_[list] += static_cast<std::uint32_t>(count);
        light_[list] += static_cast<std::uint32_t>(count);
      }
      count += of_chunk[static_cast<std::size_t>(chunk)].size();
    }
    if (count > std::numeric_limits<std::uint32_t>::max()) throw ShapeError("quads_q8: more than 2^32 quads");
    begin_[lists] = static_cast<std::uint32_t>(count);
    quads_ = AlignedBuffer<Quad>::zeros(count + 1);  // never null, also when there is nothing
    Quad* to = quads_.data();
    for (const std::vector<Quad>& quads : of_chunk) to = std::copy(quads.begin(), quads.end(), to);

    v.begin = begin_.data();
    v.light = light_.data();
    v.row = row_.data();
    v.quads = quads_.data();
    v.offset = offset_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(begin_), bytes_of(light_), bytes_of(row_), bytes_of(quads_), bytes_of(offset_), bytes_of(scale_)};
  }
  std::int64_t units() const override { return (view_.n + kQuadsRows - 1) / kQuadsRows; }

  std::int64_t cost(std::int64_t unit) const override {
    // The rows' own cost (starting a list, writing the outputs) is about that of two quads a row.
    const std::int64_t row = std::min(unit * kQuadsRows, view_.n);
    std::int64_t sum = 2 * row;
    for (std::int64_t chunk = 0; chunk < view_.chunks; ++chunk)
      sum += std::int64_t{begin_[static_cast<std::size_t>(chunk * view_.n + row)]} -
             std::int64_t{begin_[static_cast<std::size_t>(chunk * view_.n)]};
    return sum;
  }

  std::size_t scratch_bytes(std::int64_t) const override { return scratch_(view_.k); }

  void row_f32(std::int64_t n, float* out) const override {
    const QuadsView& v = view_;
    std::fill(out, out + v.k, 0.0f);
    const std::int64_t set = n / kQuadsSet * kQuadsSet;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      std::int64_t list = chunk * v.n + set;
      while (v.row[list] != n - set) ++list;
      for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i)
        for (int slot = 0; slot < 4; ++slot)
          if (const int weight = v.quads[i].weight[slot]; weight != 0)
            out[chunk * v.chunk + v.quads[i].column[slot] / 8] = static_cast<float>(weight) * v.scale[n];
    }
  }

 private:
  // The nonzeros of one sign of a list by magnitude, smallest first: `rest`, which the other sign has no partners for, then
  // 2 * pairs that make light pairs, then the largest.
  struct OneSign {
    std::vector<Nonzero> list, sorted;
    std::size_t count = 0, rest = 0, pairs = 0;

    void sort() {
      std::size_t begin[129] = {};
      for (std::size_t i = 0; i < count; ++i) ++begin[std::abs(list[i].weight) + 1];
      for (int w = 1; w < 129; ++w) begin[w] += begin[w - 1];
      sorted.resize(count);
      for (std::size_t i = 0; i < count; ++i) sorted[begin[std::abs(list[i].weight)]++] = list[i];
    }
    void fold() {
      for (pairs = (count - rest) / 2; pairs != 0 && !fits(); --pairs) {
      }
    }
    bool fits() const {
      for (std::size_t i = 0; i < pairs; ++i)
        if (std::abs(pair(i).a.weight + pair(i).b.weight) > kLight) return false;
      return true;
    }
    Pair pair(std::size_t i) const { return {sorted[rest + i], sorted[rest + 2 * pairs - 1 - i]}; }
  };

  // The quads of one row in one chunk, those of light pairs first.
  struct List {
    std::vector<Quad> quads;
    std::size_t light = 0;
    std::uint8_t row = 0;
  };

  void add_set(const WeightSource& source, std::int64_t set, std::vector<std::vector<Quad>>& of_chunk) {
    const QuadsView& v = view_;
    const std::int64_t rows = std::min(kQuadsSet, v.n - set);
    std::vector<std::vector<List>> lists(of_chunk.size(), std::vector<List>(static_cast<std::size_t>(rows)));
    for (std::int64_t row = 0; row < rows; ++row) add_row(source, set, row, lists);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      std::vector<List>& sorted = lists[static_cast<std::size_t>(chunk)];
      std::stable_sort(sorted.begin(), sorted.end(), [](const List& a, const List& b) {
        return std::make_pair(a.quads.size(), a.light) < std::make_pair(b.quads.size(), b.light);
      });
      // Runs of lists have as many light pairs each: the others of a longer list are single quads, which may be slower by a tenth,
      // where a wrong guess at the end of the pairs costs as much as two quads.
      for (std::size_t i = 0; i < sorted.size(); i += kEqual) {
        const std::size_t end = std::min(sorted.size(), i + kEqual);
        std::size_t light = sorted[i].light;
        for (std::size_t j = i; j < end; ++j) light = std::min(light, sorted[j].light);
        for (std::size_t j = i; j < end; ++j) sorted[j].light = light;
      }
      std::vector<Quad>& quads = of_chunk[static_cast<std::size_t>(chunk)];
      auto at = static_cast<std::size_t>(chunk * v.n + set);
      for (const List& list : sorted) {
        begin_[at] = static_cast<std::uint32_t>(quads.size());
        light_[at] = static_cast<std::uint32_t>(quads.size() + list.light);
        row_[at++] = list.row;
        quads.insert(quads.end(), list.quads.begin(), list.quads.end());
      }
    }
  }

  void add_row(const WeightSource& source, std::int64_t set, std::int64_t row, std::vector<std::vector<List>>& lists) {
    const QuadsView& v = view_;
    const std::int64_t n = set + row;
    codes_.resize(static_cast<std::size_t>(v.k));
    source.row_q8(n, codes_.data());
    std::int32_t sum = 0;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::int64_t first = chunk * v.chunk, end = std::min(v.k, first + v.chunk);
      for (OneSign& sign : of_sign_) {
        sign.list.resize(static_cast<std::size_t>(end - first) + 1);
        sign.count = 0;
      }
      for (std::int64_t k = first; k < end; ++k) {  // no branch: a mask of nonzeros cannot be predicted
        const int weight = codes_[static_cast<std::size_t>(k)];
        const Nonzero nz = {static_cast<std::int32_t>(8 * (k - first)), weight};
        of_sign_[0].list[of_sign_[0].count] = nz;
        of_sign_[1].list[of_sign_[1].count] = nz;
        of_sign_[0].count += weight > 0;
        of_sign_[1].count += weight < 0;
        sum += weight;
      }
      List& list = lists[static_cast<std::size_t>(chunk)][static_cast<std::size_t>(row)];
      list.row = static_cast<std::uint8_t>(row);
      list.light = add_list(list.quads);
    }
    // 128 * sum may wrap: so does the sum that it is taken off from, and the difference fits.
    offset_[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * 128u);
    scale_[static_cast<std::size_t>(n)] = source.scale(n);
  }

  // Appends the quads of of_sign_; returns how many of them are in light pairs.
  std::size_t add_list(std::vector<Quad>& quads) {
    OneSign &plus = of_sign_[0], &minus = of_sign_[1];
    for (OneSign& sign : of_sign_) {
      sign.sort();
      sign.rest = sign.count - std::min(plus.count, minus.count);
      sign.fold();
    }
    // Half a light pair of quads: a light pair of each sign, one in each of the two quads. Fewer pairs still fit.
    plus.pairs = minus.pairs = std::min(plus.pairs, minus.pairs) / 2 * 2;
    for (std::size_t i = 0; i < plus.pairs; i += 2) {
      put(quads, plus.pair(i), plus.pair(i + 1));
      put(quads, minus.pair(i), minus.pair(i + 1));
    }
    // The largest of both signs; then what one sign has more of, large ones with small ones.
    pairs_.clear();
    for (std::size_t p = plus.count, m = minus.count; p > plus.rest + 2 * plus.pairs;)
      pairs_.push_back({plus.sorted[--p], minus.sorted[--m]});
    const OneSign& more = plus.rest != 0 ? plus : minus;
    for (std::size_t low = 0, high = more.rest; low < high;) {
      const Nonzero& large = more.sorted[--high];
      const bool joined = low < high && std::abs(large.weight + more.sorted[low].weight) <= kLight;
      pairs_.push_back({large, joined ? more.sorted[low] : Nonzero{large.column, 0}});
      low += joined;
    }
    for (std::size_t i = 0; i < pairs_.size(); i += 2) {
      const std::int32_t column = pairs_[i].a.column;
      put(quads, pairs_[i], i + 1 < pairs_.size() ? pairs_[i + 1] : Pair{{column, 0}, {column, 0}});
    }
    return plus.pairs;
  }

  static void put(std::vector<Quad>& quads, const Pair& first, const Pair& second) {
    Quad quad;
    const Nonzero slots[4] = {first.a, first.b, second.a, second.b};
    for (int i = 0; i < 4; ++i) {
      quad.column[i] = static_cast<std::uint16_t>(slots[i].column);
      quad.weight[i] = static_cast<std::int8_t>(slots[i].weight);
    }
    quads.push_back(quad);
  }

  Scratch scratch_;
  QuadsView view_{};
  std::vector<std::int8_t> codes_;
  OneSign of_sign_[2];
  std::vector<Pair> pairs_;
  AlignedBuffer<std::uint32_t> begin_, light_;
  AlignedBuffer<std::uint8_t> row_;
  AlignedBuffer<Quad> quads_;
  AlignedBuffer<std::int32_t> offset_;
  AlignedBuffer<float> scale_;
};

std::unique_ptr<Weight> pack(const WeightSource& source, QuadsWeight::Scratch scratch) {
  if (source.n() < 1) throw ShapeError("quads_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("quads_q8: expected int8 weights, got float");
  return std::make_unique<QuadsWeight>(source, scratch);
}

}  // namespace

std::unique_ptr<Weight> pack_quads_q8_avx2(const WeightSource& source) { return pack(source, quads_scratch_avx2); }

std::unique_ptr<Weight> pack_quads_q8_scalar(const WeightSource& source) {
  return pack(source, [](std::int64_t) { return std::size_t{0}; });
}

}  // namespace aerogel
