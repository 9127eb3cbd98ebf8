// Packs blocks_q8 for AVX-512, four rows at a time (layout.h draws it).
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/blocks_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

constexpr std::int64_t kRows = kFourBlocksRows, kLists = kRows / 4;

// The blocks of a row that are not empty: index and weights.
struct RowBlock {
  std::int64_t index;
  std::array<std::int8_t, 4> weight;
};

// The rows of one set, by place: sorted by their number of blocks, so that rows of about one length share a list.
struct Set {
  std::array<std::vector<RowBlock>, kRows> row;
  std::array<std::int32_t, kRows> sum{};  // of a row's weights
  std::array<int, kRows> order{};         // the row at each place
};

Set read_set(const WeightSource& source, std::int64_t first, std::vector<std::int8_t>& codes) {
  Set set;
  std::array<std::vector<RowBlock>, kRows> rows;
  std::array<std::int32_t, kRows> sums{};
  for (std::int64_t r = 0; r < kRows && first + r < source.n(); ++r) {
    source.row_q8(first + r, codes.data());
    for (std::int64_t k = 0; k < source.k(); k += 4) {
      const std::int8_t* w = &codes[static_cast<std::size_t>(k)];  // behind K stand zeros
      if ((w[0] | w[1] | w[2] | w[3]) == 0) continue;
      rows[static_cast<std::size_t>(r)].push_back({k / 4, {w[0], w[1], w[2], w[3]}});
      sums[static_cast<std::size_t>(r)] += w[0] + w[1] + w[2] + w[3];
    }
  }
  std::iota(set.order.begin(), set.order.end(), 0);
  std::stable_sort(set.order.begin(), set.order.end(), [&](int a, int b) {
    return rows[static_cast<std::size_t>(a)].size() > rows[static_cast<std::size_t>(b)].size();
  });
  for (std::size_t place = 0; place < set.order.size(); ++place) {
    set.row[place] = std::move(rows[static_cast<std::size_t>(set.order[place])]);
    set.sum[place] = sums[static_cast<std::size_t>(set.order[place])];
  }
  return set;
}

// The columns of a chunk. Of 768 the tile of 64 tokens fills all of a 48 KB L1, and half of them leaves it room: measured on an
// Emerald Rapids, at 128 tokens, 384 gained 8 % at 50 % of empty blocks, lost 3 % at 70 % and 12 % at 90 %, where what is read
// between two uses of a line is less and a list's own cost counts.
std::int64_t chunk_of(const WeightSource& source, std::int64_t blocks) {
  const std::int64_t most = 10 * 4 * blocks > 3 * source.n() * source.k() ? 384 : 768;
  const std::int64_t chunks = (source.k() + most - 1) / most;
  return round_up<std::int64_t>((source.k() + chunks - 1) / chunks, 64);
}

class FourBlocksWeight final : public Weight {
 public:
  explicit FourBlocksWeight(const WeightSource& source) : Weight(source.n(), source.k(), source.nonzeros()) {
    FourBlocksView& v = view_;
    v.n = source.n();
    v.k = source.k();
    std::vector<std::int8_t> codes(static_cast<std::size_t>(round_up<std::int64_t>(v.k, 4)));
    std::vector<Set> sets;  // in memory twice for a moment, but each row is decoded once, and the chunks depend on all of them
    std::int64_t count = 0;
    for (std::int64_t first = 0; first < v.n; first += kRows) {
      sets.push_back(read_set(source, first, codes));
      for (const auto& row : sets.back().row) count += static_cast<std::int64_t>(row.size());
    }
    v.chunk = chunk_of(source, count);
    v.chunks = (v.k + v.chunk - 1) / v.chunk;
    place_ = AlignedBuffer<std::uint8_t>(sets.size() * kRows);
    start_ = AlignedBuffer<std::int32_t>(sets.size() * kRows);
    scale_ = AlignedBuffer<float>::zeros(sets.size() * kRows);
    begin_ = AlignedBuffer<std::uint32_t>(sets.size() * static_cast<std::size_t>(v.chunks * kLists) + 1);
    std::vector<FourBlocks> blocks;
    std::size_t list = 0;
    for (std::size_t s = 0; s < sets.size(); ++s) list = add(sets[s], s, list, blocks);
    begin_[list] = number(blocks.size());
    for (std::int64_t n = 0; n < v.n; ++n) scale_[static_cast<std::size_t>(n)] = source.scale(n);
    blocks_ = AlignedBuffer<FourBlocks>(blocks.size() + 1);  // never null, also when there is nothing
    blocks_[blocks.size()] = {};
    std::copy(blocks.begin(), blocks.end(), blocks_.data());
    v.begin = begin_.data();
    v.blocks = blocks_.data();
    v.place = place_.data();
    v.start = start_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(begin_), bytes_of(blocks_), bytes_of(place_), bytes_of(start_), bytes_of(scale_)};
  }
  std::int64_t units() const override { return (view_.n + kRows - 1) / kRows; }

  std::int64_t cost(std::int64_t unit) const override {
    // Writing 32 rows of 64 tokens took 1,400 cycles on an Emerald Rapids, four blocks some 14.
    return 100 * unit + std::int64_t{begin_[static_cast<std::size_t>(unit * view_.chunks * kLists)]};
  }

  std::size_t scratch_bytes(std::int64_t) const override {
    return blocks_scratch(view_.k, kFourBlocksTokens, kFourBlocksSets * kRows);
  }

  void row_f32(std::int64_t n, float* out) const override {
    const FourBlocksView& v = view_;
    std::fill(out, out + v.k, 0.0f);
    const int place = v.place[n];
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::uint32_t* begin = v.begin + (n / kRows * v.chunks + chunk) * kLists + place / 4;
      for (std::uint32_t i = begin[0]; i < begin[1]; ++i)
        for (int j = 0; j < 4; ++j)
          if (const int weight = v.blocks[i].weight[place % 4][j]; weight != 0)
            out[chunk * v.chunk + v.blocks[i].column[place % 4] / 8 + j] = static_cast<float>(weight) * v.scale[n];
    }
  }

 private:
  static std::uint32_t number(std::size_t blocks) {
    if (blocks > std::numeric_limits<std::uint32_t>::max()) throw ShapeError("blocks_q8: more than 2^34 blocks");
    return static_cast<std::uint32_t>(blocks);
  }

  // The lists of set s, the first of which is number `list`; returns the number of the one behind them.
  std::size_t add(const Set& set, std::size_t s, std::size_t list, std::vector<FourBlocks>& blocks) {
    for (std::size_t place = 0; place < kRows; ++place) {
      place_[s * kRows + static_cast<std::size_t>(set.order[place])] = static_cast<std::uint8_t>(place);
      // 128 * sum may wrap: so does what the kernel adds to it, and the difference fits.
      start_[s * kRows + place] = static_cast<std::int32_t>(0u - 128u * static_cast<std::uint32_t>(set.sum[place]));
    }
    std::array<std::size_t, kRows> next{};
    for (std::int64_t chunk = 0; chunk < view_.chunks; ++chunk) {
      const std::int64_t first = chunk * view_.chunk / 4, end = first + view_.chunk / 4;
      for (std::size_t place = 0; place < kRows; place += 4, ++list) {
        begin_[list] = number(blocks.size());
        for (std::size_t r = 0; r < 4; ++r) {
          const std::vector<RowBlock>& row = set.row[place + r];
          std::size_t& at = next[place + r];
          for (std::size_t to = begin_[list]; at < row.size() && row[at].index < end; ++at, ++to) {
            if (to == blocks.size()) blocks.emplace_back();
            blocks[to].column[r] = static_cast<std::uint16_t>(32 * (row[at].index - first));
            std::copy(row[at].weight.begin(), row[at].weight.end(), blocks[to].weight[r]);
          }
        }
      }
    }
    return list;
  }

  FourBlocksView view_{};
  AlignedBuffer<std::uint32_t> begin_;
  AlignedBuffer<FourBlocks> blocks_;
  AlignedBuffer<std::uint8_t> place_;
  AlignedBuffer<std::int32_t> start_;
  AlignedBuffer<float> scale_;
};

}  // namespace

std::unique_ptr<Weight> pack_blocks_q8_avx512vnni(const WeightSource& source) {
  if (source.n() < 1) throw ShapeError("blocks_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("blocks_q8: expected int8 weights, got float");
  return std::make_unique<FourBlocksWeight>(source);
}

}  // namespace aerogel
