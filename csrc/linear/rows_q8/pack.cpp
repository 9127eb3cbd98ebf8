// Packs rows_q8 (layout.h draws it).
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/rows_q8/layout.h"
#include "linear/shared_rows.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

// A chunk of 32 tokens fills three quarters of a 32 KB L1.
constexpr std::int64_t kChunk = 768;
// So many columns are looked at for one that fits another, before that stands alone.
constexpr int kTries = 64;

// One column of a set: the codes of its rows.
struct Column {
  std::int32_t at;  // 8 * (column - chunk start)
  std::int32_t largest;
  std::int8_t weight[4];
};

// Side by side in a multiply-add of 16 bits that none of the rows saturates.
bool safe(const Column& a, const Column& b) {
  for (int r = 0; r < 4; ++r)
    if ((a.weight[r] ^ b.weight[r]) >= 0 && std::abs(a.weight[r] + b.weight[r]) > 128) return false;
  return true;
}

class RowsWeight final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t k);

  RowsWeight(const WeightSource& source, Scratch scratch) : Weight(source.n(), source.k(), source.nonzeros()), scratch_(scratch) {
    RowsView& v = view_;
    v.n = source.n();
    v.k = source.k();
    v.rows = shared_rows(source);
    v.sets = (v.n + v.rows - 1) / v.rows;
    v.chunks = (v.k + kChunk - 1) / kChunk;
    v.chunk = round_up<std::int64_t>((v.k + v.chunks - 1) / v.chunks, 64);
    v.chunks = (v.k + v.chunk - 1) / v.chunk;
    const auto lists = static_cast<std::size_t>(v.chunks * v.sets), padded = static_cast<std::size_t>(units() * kRowsUnit);
    begin_ = AlignedBuffer<std::uint32_t>(lists + 1);
    offset_ = AlignedBuffer<std::int32_t>::zeros(padded);
    scale_ = AlignedBuffer<float>::zeros(padded);
    // Chunks outside would decode every row as often as there are chunks: sets outside, then the lists are put in order.
    std::vector<std::vector<std::uint8_t>> of_chunk(static_cast<std::size_t>(v.chunks));
    for (std::int64_t set = 0; set < v.sets; ++set) add_set(source, set, of_chunk);
    std::size_t count = 0;
    const auto bytes = static_cast<std::size_t>(rows_quad_bytes(v.rows));
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      for (std::int64_t list = chunk * v.sets; list < (chunk + 1) * v.sets; ++list) begin_[list] += static_cast<std::uint32_t>(count);
      count += of_chunk[static_cast<std::size_t>(chunk)].size() / bytes;
    }
    if (count > std::numeric_limits<std::uint32_t>::max()) throw ShapeError("rows_q8: more than 2^32 quads");
    begin_[lists] = static_cast<std::uint32_t>(count);
    quads_ = AlignedBuffer<std::uint8_t>::zeros(count * bytes + 1);  // never null, also when there is nothing
    std::uint8_t* to = quads_.data();
    for (const std::vector<std::uint8_t>& quads : of_chunk) to = std::copy(quads.begin(), quads.end(), to);

    v.begin = begin_.data();
    v.quads = quads_.data();
    v.offset = offset_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(begin_), bytes_of(quads_), bytes_of(offset_), bytes_of(scale_)}; }
  std::int64_t units() const override { return (view_.n + kRowsUnit - 1) / kRowsUnit; }

  std::int64_t cost(std::int64_t unit) const override {
    // The rows' own cost (starting a list, writing the outputs) is about that of two quads a row.
    const std::int64_t row = std::min(unit * kRowsUnit, view_.n), set = (row + view_.rows - 1) / view_.rows;
    std::int64_t sum = 0;
    for (std::int64_t chunk = 0; chunk < view_.chunks; ++chunk)
      sum += std::int64_t{begin_[chunk * view_.sets + set]} - std::int64_t{begin_[chunk * view_.sets]};
    return sum * view_.rows + 2 * row;
  }

  std::size_t scratch_bytes(std::int64_t) const override { return scratch_(view_.k); }

  void row_f32(std::int64_t n, float* out) const override {
    const RowsView& v = view_;
    std::fill(out, out + v.k, 0.0f);
    const std::int64_t bytes = rows_quad_bytes(v.rows);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::int64_t list = chunk * v.sets + n / v.rows;
      for (std::uint32_t i = v.begin[list]; i < v.begin[list + 1]; ++i) {
        std::uint16_t column[4];
        std::memcpy(column, v.quads + i * bytes, 8);
        for (int slot = 0; slot < 4; ++slot) {
          const auto weight = static_cast<std::int8_t>(v.quads[i * bytes + 8 + 4 * (n % v.rows) + slot]);
          if (weight != 0) out[chunk * v.chunk + column[slot] / 8] = static_cast<float>(weight) * v.scale[n];
        }
      }
    }
  }

 private:
  void add_set(const WeightSource& source, std::int64_t set, std::vector<std::vector<std::uint8_t>>& of_chunk) {
    const RowsView& v = view_;
    const auto k = static_cast<std::size_t>(v.k);
    codes_.assign(4 * k, 0);
    for (std::int64_t r = 0; r < v.rows && set * v.rows + r < v.n; ++r) {
      const std::int64_t n = set * v.rows + r;
      std::int8_t* row = &codes_[static_cast<std::size_t>(r) * k];
      source.row_q8(n, row);
      const std::int32_t sum = std::accumulate(row, row + k, 0);
      // 128 * sum may wrap: so does the sum that it is taken off from, and the difference fits.
      offset_[n] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * 128u);
      scale_[n] = source.scale(n);
    }
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      std::vector<std::uint8_t>& quads = of_chunk[static_cast<std::size_t>(chunk)];
      begin_[chunk * v.sets + set] = static_cast<std::uint32_t>(quads.size() / static_cast<std::size_t>(rows_quad_bytes(v.rows)));
      columns_.clear();
      const std::int64_t first = chunk * v.chunk, end = std::min(v.k, first + v.chunk);
      for (std::int64_t i = first; i < end; ++i) {
        Column column = {static_cast<std::int32_t>(8 * (i - first)), 0, {}};
        for (std::size_t r = 0; r < 4; ++r) {
          column.weight[r] = codes_[r * k + static_cast<std::size_t>(i)];
          column.largest = std::max(column.largest, std::abs(column.weight[r]));
        }
        if (column.largest != 0) columns_.push_back(column);
      }
      add_list(quads);
    }
  }

  // Appends the quads of columns_: the column with the largest weight beside the smallest that it is safe with, and so on.
  void add_list(std::vector<std::uint8_t>& quads) {
    std::stable_sort(columns_.begin(), columns_.end(), [](const Column& a, const Column& b) { return a.largest < b.largest; });
    std::vector<Column> pairs;
    while (!columns_.empty()) {
      const Column large = columns_.back();
      columns_.pop_back();
      pairs.push_back(large);
      auto fits = columns_.begin();
      const auto last = columns_.begin() + std::min<std::ptrdiff_t>(kTries, columns_.end() - columns_.begin());
      while (fits != last && !safe(large, *fits)) ++fits;
      if (fits == last) {
        pairs.push_back({large.at, 0, {}});
      } else {
        pairs.push_back(*fits);
        columns_.erase(fits);
      }
    }
    if (pairs.size() % 4 != 0) pairs.insert(pairs.end(), 2, {pairs.back().at, 0, {}});
    for (std::size_t i = 0; i < pairs.size(); i += 4) put(quads, &pairs[i]);
  }

  void put(std::vector<std::uint8_t>& quads, const Column* slot) const {
    for (int j = 0; j < 4; ++j) {
      quads.push_back(static_cast<std::uint8_t>(slot[j].at & 255));
      quads.push_back(static_cast<std::uint8_t>(slot[j].at >> 8));
    }
    for (std::int64_t r = 0; r < view_.rows; ++r)
      for (int j = 0; j < 4; ++j) quads.push_back(static_cast<std::uint8_t>(slot[j].weight[r]));
  }

  Scratch scratch_;
  RowsView view_{};
  std::vector<std::int8_t> codes_;
  std::vector<Column> columns_;
  AlignedBuffer<std::uint32_t> begin_;
  AlignedBuffer<std::uint8_t> quads_;
  AlignedBuffer<std::int32_t> offset_;
  AlignedBuffer<float> scale_;
};

std::unique_ptr<Weight> pack(const WeightSource& source, RowsWeight::Scratch scratch) {
  if (source.n() < 1) throw ShapeError("rows_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("rows_q8: expected int8 weights, got float");
  return std::make_unique<RowsWeight>(source, scratch);
}

}  // namespace

std::unique_ptr<Weight> pack_rows_q8_avx2(const WeightSource& source) { return pack(source, rows_scratch); }
std::unique_ptr<Weight> pack_rows_q8_neondot(const WeightSource& source) { return pack(source, rows_scratch); }

std::unique_ptr<Weight> pack_rows_q8_scalar(const WeightSource& source) {
  return pack(source, [](std::int64_t) { return std::size_t{0}; });
}

}  // namespace aerogel
