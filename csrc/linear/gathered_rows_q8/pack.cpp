// Packs gathered_rows_q8 (layout.h draws it).
#include <algorithm>
#include <numeric>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/gathered_rows_q8/layout.h"
#include "linear/shared_rows.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

// Windows of a chunk of 8 tokens take 24 KB, half of a 48 KB L1.
constexpr std::int64_t kChunk = 768;
constexpr std::int64_t kBlock = kGatheredRowsBlock, kWindow = 64, kStep = kGatheredRowsStep;

template <class T>
AlignedBuffer<T> copy_of(const std::vector<T>& from) {
  auto buffer = AlignedBuffer<T>::zeros(from.size() + 1);  // never null, also when there is nothing
  std::copy(from.begin(), from.end(), buffer.data());
  return buffer;
}

class GatheredRowsWeight final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t chunk);

  GatheredRowsWeight(const WeightSource& source, Scratch scratch)
      : Weight(source.n(), source.k(), source.nonzeros()), scratch_(scratch) {
    GatheredRowsView& v = view_;
    v.n = source.n();
    v.k = source.k();
    v.rows = shared_rows(source);
    v.groups = kBlock / (16 * v.rows);
    v.chunks = (v.k + kChunk - 1) / kChunk;
    v.chunk = round_up<std::int64_t>((v.k + v.chunks - 1) / v.chunks, 64);
    v.chunks = (v.k + v.chunk - 1) / v.chunk;
    const auto padded = static_cast<std::size_t>(units() * kBlock);
    segment_ = AlignedBuffer<std::int64_t>(static_cast<std::size_t>(units() * v.chunks * v.groups + 1));
    place_ = AlignedBuffer<std::uint8_t>(padded);
    start_ = AlignedBuffer<std::int32_t>::zeros(padded);
    scale_ = AlignedBuffer<float>::zeros(padded);
    codes_.resize(static_cast<std::size_t>(kBlock * v.k));
    std::vector<std::uint16_t> windows;
    std::vector<std::uint8_t> vectors;
    for (std::int64_t unit = 0; unit < units(); ++unit) {
      read_block(source, unit);
      pack_block(unit, windows, vectors);
    }
    segment_[segment_.size() - 1] = static_cast<std::int64_t>(windows.size());
    window_ = copy_of(windows);
    vectors_ = copy_of(vectors);
    v.segment = segment_.data();
    v.window = window_.data();
    v.vectors = vectors_.data();
    v.place = place_.data();
    v.start = start_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(segment_), bytes_of(window_), bytes_of(vectors_), bytes_of(place_), bytes_of(start_), bytes_of(scale_)};
  }
  std::int64_t units() const override { return (view_.n + kBlock - 1) / kBlock; }

  std::int64_t cost(std::int64_t unit) const override {
    // The rows' own cost (writing the outputs) is about that of two vectors a group.
    const std::int64_t groups = unit * view_.groups;
    return segment_[static_cast<std::size_t>(groups * view_.chunks)] + 2 * groups;
  }

  std::size_t scratch_bytes(std::int64_t) const override { return scratch_(view_.chunk); }

  void row_f32(std::int64_t n, float* out) const override {
    const GatheredRowsView& v = view_;
    const std::int64_t place = v.place[n], group = place / (16 * v.rows), row = place / 16 % v.rows, lane = place % 16;
    std::fill(out, out + v.k, 0.0f);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::int64_t* segment = v.segment + (n / kBlock * v.chunks + chunk) * v.groups + group;
      for (std::int64_t i = segment[0]; i < segment[1]; ++i)
        for (std::int64_t slot = 4 * lane; slot < 4 * lane + 4; ++slot) {
          const std::uint8_t* vector = v.vectors + i * gathered_rows_vector_bytes(v.rows);
          const auto value = static_cast<std::int8_t>(vector[64 + 64 * row + slot]);
          if (value != 0) out[chunk * v.chunk + v.window[i] * kStep + vector[slot]] = static_cast<float>(value) * v.scale[n];
        }
    }
  }

 private:
  // codes_: the rows of the block; columns_: the columns of each set with a nonzero.
  void read_block(const WeightSource& source, std::int64_t unit) {
    const std::int64_t k = view_.k;
    std::fill(codes_.begin(), codes_.end(), std::int8_t{0});
    const std::int64_t rows = std::min(kBlock, view_.n - unit * kBlock);
    for (std::int64_t r = 0; r < rows; ++r) {
      source.row_q8(unit * kBlock + r, &codes_[static_cast<std::size_t>(r * k)]);
      scale_[unit * kBlock + r] = source.scale(unit * kBlock + r);
    }
    columns_.assign(static_cast<std::size_t>(kBlock / view_.rows), {});
    for (std::int64_t set = 0; set < kBlock / view_.rows; ++set)
      for (std::int64_t i = 0; i < k; ++i) {
        int any = 0;
        for (std::int64_t r = 0; r < view_.rows; ++r) any |= code(set, r, i);
        if (any != 0) columns_[static_cast<std::size_t>(set)].push_back(static_cast<std::int32_t>(i));
      }
  }

  std::int8_t code(std::int64_t set, std::int64_t row, std::int64_t column) const {
    return codes_[static_cast<std::size_t>((set * view_.rows + row) * view_.k + column)];
  }

  void pack_block(std::int64_t unit, std::vector<std::uint16_t>& windows, std::vector<std::uint8_t>& vectors) {
    const GatheredRowsView& v = view_;
    std::vector<std::int64_t> order(columns_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return columns_[static_cast<std::size_t>(a)].size() > columns_[static_cast<std::size_t>(b)].size();
    });
    for (std::size_t sorted = 0; sorted < order.size(); ++sorted)
      for (std::int64_t r = 0; r < v.rows; ++r) {
        const std::int64_t row = order[sorted] * v.rows + r;
        const auto place = static_cast<std::int64_t>(sorted) / 16 * 16 * v.rows + 16 * r + static_cast<std::int64_t>(sorted) % 16;
        place_[unit * kBlock + row] = static_cast<std::uint8_t>(place);
        const std::int8_t* codes = &codes_[static_cast<std::size_t>(row * v.k)];
        // 128 * sum may wrap: so does the sum that starts from it, and the result fits.
        start_[unit * kBlock + place] = static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(std::accumulate(codes, codes + v.k, 0)) * 128u);
      }
    next_.assign(columns_.size(), 0);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk)
      for (std::int64_t group = 0; group < v.groups; ++group) {
        segment_[(unit * v.chunks + chunk) * v.groups + group] = static_cast<std::int64_t>(windows.size());
        pack_group(&order[static_cast<std::size_t>(16 * group)], chunk, windows, vectors);
      }
  }

  // The columns of one chunk of 16 sets.
  void pack_group(const std::int64_t* sets, std::int64_t chunk, std::vector<std::uint16_t>& windows, std::vector<std::uint8_t>& vectors) {
    const std::int64_t begin = chunk * view_.chunk, end = begin + view_.chunk;
    for (;;) {
      std::int64_t first = end;
      for (int lane = 0; lane < 16; ++lane) {
        const auto set = static_cast<std::size_t>(sets[lane]);
        if (next_[set] < columns_[set].size()) first = std::min<std::int64_t>(first, columns_[set][next_[set]]);
      }
      if (first == end) return;
      const std::int64_t window = (first - begin) / kStep, from = begin + window * kStep;
      windows.push_back(static_cast<std::uint16_t>(window));
      const std::size_t at = vectors.size();
      vectors.resize(at + static_cast<std::size_t>(gathered_rows_vector_bytes(view_.rows)), 0);
      for (int lane = 0; lane < 16; ++lane) take(sets[lane], from, std::min(end, from + kWindow), &vectors[at + static_cast<std::size_t>(4 * lane)]);
    }
  }

  // Up to four columns in [begin, end) of a set into its slots.
  void take(std::int64_t set, std::int64_t begin, std::int64_t end, std::uint8_t* slot) {
    const std::vector<std::int32_t>& columns = columns_[static_cast<std::size_t>(set)];
    std::size_t& next = next_[static_cast<std::size_t>(set)];
    for (int i = 0; i < 4 && next < columns.size() && columns[next] < end; ++i, ++next, ++slot) {
      *slot = static_cast<std::uint8_t>(columns[next] - begin);
      for (std::int64_t r = 0; r < view_.rows; ++r) slot[64 + 64 * r] = static_cast<std::uint8_t>(code(set, r, columns[next]));
    }
  }

  Scratch scratch_;
  GatheredRowsView view_{};
  std::vector<std::int8_t> codes_;
  std::vector<std::vector<std::int32_t>> columns_;
  std::vector<std::size_t> next_;
  AlignedBuffer<std::int64_t> segment_;
  AlignedBuffer<std::uint16_t> window_;
  AlignedBuffer<std::uint8_t> vectors_, place_;
  AlignedBuffer<std::int32_t> start_;
  AlignedBuffer<float> scale_;
};

std::unique_ptr<Weight> pack(const WeightSource& source, GatheredRowsWeight::Scratch scratch) {
  if (source.n() < 1) throw ShapeError("gathered_rows_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("gathered_rows_q8: expected int8 weights, got float");
  return std::make_unique<GatheredRowsWeight>(source, scratch);
}

}  // namespace

std::unique_ptr<Weight> pack_gathered_rows_q8_avx512vnni(const WeightSource& source) { return pack(source, gathered_rows_scratch); }

std::unique_ptr<Weight> pack_gathered_rows_q8_scalar(const WeightSource& source) {
  return pack(source, [](std::int64_t) { return std::size_t{0}; });
}

}  // namespace aerogel
