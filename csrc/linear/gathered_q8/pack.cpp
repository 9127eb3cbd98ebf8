// Packs gathered_q8 (layout.h draws it) for any geometry.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/gathered_q8/layout.h"
#include "linear/gathered_q8/sort_block.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

constexpr GatheredGeometry kAvx2 = {8, 16, 1, 32768, true, true};
constexpr GatheredGeometry kAvxVnni = {8, 16, 1, 2048, false, false};
constexpr GatheredGeometry kNeonDot = {4, 32, 8, 768, false, false};
constexpr GatheredGeometry kAvx512 = {16, 64, 32, 768, false, false};

struct Nonzero {
  std::int32_t column;
  std::int32_t weight;
};

// Two weights side by side that cannot saturate a multiply-add of 16 bits with activations in [1, 255].
bool safe(std::int32_t a, std::int32_t b) { return (a ^ b) < 0 || std::abs(a + b) <= 128; }

// Puts `count` <= 4 nonzeros into the slots of a quad so that both pairs are safe; false if no order does.
bool arrange(const Nonzero* const* taken, int count, int* slot) {
  static constexpr int kThird[3] = {2, 1, 0};  // the one left out of {0,1} {0,2} {1,2}
  switch (count) {
    case 1: slot[0] = 0; return true;
    case 2: slot[0] = 0; slot[1] = 2; return true;
    case 3:
      for (int third : kThird) {
        const int a = third == 0 ? 1 : 0, b = third == 2 ? 1 : 2;
        if (!safe(taken[a]->weight, taken[b]->weight)) continue;
        slot[a] = 0;
        slot[b] = 1;
        slot[third] = 2;
        return true;
      }
      return false;
    default:
      for (int partner = 1; partner < 4; ++partner) {
        const int c = partner == 1 ? 2 : 1, d = partner == 3 ? 2 : 3;
        if (!safe(taken[0]->weight, taken[partner]->weight) || !safe(taken[c]->weight, taken[d]->weight)) continue;
        slot[0] = 0;
        slot[partner] = 1;
        slot[c] = 2;
        slot[d] = 3;
        return true;
      }
      return false;
  }
}

// One growing list of vectors, moved into its final place when all are there.
struct Vectors {
  std::vector<std::uint16_t> window;
  std::vector<std::uint8_t> bytes;
};

// The nonzeros of one lane of a group that are not packed yet, by column.
struct Lane {
  Nonzero* next = nullptr;
  Nonzero* end = nullptr;
};

// Takes up to four nonzeros with columns in [begin, begin + W) out of `lane`, first ones first, into the slots from `first_slot` on
// of a vector of zeros; the others stay.
void take_quad(const GatheredGeometry& g, std::int32_t begin, Lane& lane, std::uint8_t* vector, int first_slot) {
  const Nonzero* taken[4];
  int slot[4] = {0, 1, 2, 3}, count = 0;
  Nonzero* const first = lane.next;
  Nonzero* window_end = first;
  if (!g.safe_pairs) {
    for (; window_end != lane.end && window_end->column < begin + g.window && count < 4; ++window_end) taken[count++] = window_end;
  } else {
    int trial[4];
    for (; window_end != lane.end && window_end->column < begin + g.window && count < 4; ++window_end) {
      taken[count] = window_end;
      if (!arrange(taken, count + 1, trial)) continue;
      ++count;
      std::copy(trial, trial + count, slot);
    }
  }
  for (int i = 0; i < count; ++i) {
    const int at = first_slot + slot[i], half = 2 * g.rows;
    const auto index = static_cast<std::uint8_t>(taken[i]->column - begin);
    if (!g.half_bytes)
      vector[at] = index;
    else if (at < half)
      vector[at] |= index;
    else
      vector[at - half] |= static_cast<std::uint8_t>(index << 4);
    vector[gathered_index_bytes(g) + at] = static_cast<std::uint8_t>(taken[i]->weight);
  }
  // Close the gaps: what was passed over moves up to the end of the looked-at part, in order.
  Nonzero* to = window_end;
  int left = count;
  for (Nonzero* from = window_end; from != first;) {
    --from;
    if (left != 0 && from == taken[left - 1])
      --left;
    else
      *--to = *from;
  }
  lane.next = to;
}

void pack_group(const GatheredGeometry& g, std::int32_t chunk_begin, std::vector<Lane>& lanes, Vectors& out) {
  const auto bytes = static_cast<std::size_t>(gathered_vector_bytes(g));
  for (;;) {
    std::int32_t first = -1;
    for (const Lane& lane : lanes)
      if (lane.next != lane.end && (first < 0 || lane.next->column < first)) first = lane.next->column;
    if (first < 0) return;
    const std::int32_t window = (first - chunk_begin) / g.step;
    out.window.push_back(static_cast<std::uint16_t>(window));
    const std::size_t at = out.bytes.size();
    out.bytes.resize(at + bytes, 0);
    for (std::size_t r = 0; r < lanes.size(); ++r)
      take_quad(g, chunk_begin + window * g.step, lanes[r], &out.bytes[at], static_cast<int>(4 * r));
  }
}

template <class T>
AlignedBuffer<T> copy_of(const std::vector<T>& from) {
  auto buffer = AlignedBuffer<T>::zeros(from.size() + 1);  // never null, also when there is nothing
  std::copy(from.begin(), from.end(), buffer.data());
  return buffer;
}

class GatheredWeight final : public Weight {
 public:
  using Scratch = std::size_t (*)(const GatheredView& view);
  using Block = std::int64_t (*)(const WeightSource& source, const GatheredGeometry& geometry);

  GatheredWeight(const WeightSource& source, const GatheredGeometry& geometry, Block block, Scratch scratch)
      : Weight(source.n(), source.k(), source.nonzeros()), scratch_(scratch) {
    GatheredView& v = view_;
    v.geometry = geometry;
    v.n = source.n();
    v.k = source.k();
    v.chunks = (v.k + geometry.chunk - 1) / geometry.chunk;
    v.geometry.chunk = static_cast<std::int32_t>(round_up<std::int64_t>((v.k + v.chunks - 1) / v.chunks, 64));
    v.chunks = (v.k + v.geometry.chunk - 1) / v.geometry.chunk;
    v.block = block(source, v.geometry);
    v.groups_per_block = v.block / geometry.rows;
    units_ = (v.n + v.block - 1) / v.block;
    const std::size_t padded = static_cast<std::size_t>(units_ * v.block);

    segment_ = AlignedBuffer<std::int64_t>(static_cast<std::size_t>(units_ * v.chunks * v.groups_per_block + 1));
    row_at_ = AlignedBuffer<std::uint8_t>(padded);
    position_ = AlignedBuffer<std::uint8_t>(padded);
    start_ = AlignedBuffer<std::int32_t>::zeros(padded);
    scale_ = AlignedBuffer<float>::zeros(padded);

    Vectors vectors;
    std::vector<std::vector<Nonzero>> rows(static_cast<std::size_t>(v.block));
    for (std::int64_t unit = 0; unit < units_; ++unit) {
      read_rows(source, unit, rows);
      pack_block(unit, rows, vectors);
    }
    segment_[segment_.size() - 1] = static_cast<std::int64_t>(vectors.window.size());
    window_ = copy_of(vectors.window);
    vectors_ = copy_of(vectors.bytes);

    v.segment = segment_.data();
    v.window = window_.data();
    v.vectors = vectors_.data();
    v.row_at = row_at_.data();
    v.position = position_.data();
    v.start = start_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(segment_), bytes_of(window_), bytes_of(vectors_), bytes_of(row_at_), bytes_of(position_), bytes_of(start_), bytes_of(scale_)};
  }
  std::int64_t units() const override { return units_; }

  std::int64_t cost(std::int64_t unit) const override {
    // The rows' own cost (writing the outputs) is about that of two vectors a group.
    const std::int64_t groups = unit * view_.groups_per_block;
    return segment_[static_cast<std::size_t>(groups * view_.chunks)] + 2 * groups;
  }

  std::size_t scratch_bytes(std::int64_t) const override { return scratch_(view_); }

  void row_f32(std::int64_t n, float* out) const override {
    const GatheredView& v = view_;
    const std::int64_t unit = n / v.block, place = v.position[n], group = place / v.geometry.rows, lane = place % v.geometry.rows;
    const std::int64_t bytes = gathered_vector_bytes(v.geometry), index_bytes = gathered_index_bytes(v.geometry);
    std::fill(out, out + v.k, 0.0f);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::int64_t* segment = v.segment + (unit * v.chunks + chunk) * v.groups_per_block + group;
      for (std::int64_t i = segment[0]; i < segment[1]; ++i)
        for (std::int64_t slot = 4 * lane; slot < 4 * lane + 4; ++slot) {
          const std::uint8_t* vector = v.vectors + i * bytes;
          const auto value = static_cast<std::int8_t>(vector[index_bytes + slot]);
          const std::int64_t column = chunk * v.geometry.chunk + v.window[i] * v.geometry.step + gathered_index(v.geometry, vector, slot);
          if (value != 0) out[column] = static_cast<float>(value) * v.scale[n];
        }
    }
  }

 private:
  void read_rows(const WeightSource& source, std::int64_t unit, std::vector<std::vector<Nonzero>>& rows) {
    codes_.resize(static_cast<std::size_t>(view_.k));
    for (std::int64_t r = 0; r < view_.block; ++r) {
      std::vector<Nonzero>& row = rows[static_cast<std::size_t>(r)];
      row.clear();
      const std::int64_t n = unit * view_.block + r;
      if (n >= view_.n) continue;
      source.row_q8(n, codes_.data());
      row.resize(static_cast<std::size_t>(view_.k) + 1);
      std::size_t count = 0;
      for (std::int64_t k = 0; k < view_.k; ++k) {
        const std::int32_t weight = codes_[static_cast<std::size_t>(k)];
        row[count] = {static_cast<std::int32_t>(k), weight};  // no branch: a mask of nonzeros cannot be predicted
        count += weight != 0;
      }
      row.resize(count);
      scale_[static_cast<std::size_t>(n)] = source.scale(n);
    }
  }

  void pack_block(std::int64_t unit, std::vector<std::vector<Nonzero>>& rows, Vectors& out) {
    const GatheredView& v = view_;
    std::uint8_t* const row_at = row_at_.data() + unit * v.block;
    for (std::int64_t r = 0; r < v.block; ++r) row_at[r] = static_cast<std::uint8_t>(r);
    std::stable_sort(row_at, row_at + v.block, [&](int a, int b) { return rows[a].size() > rows[b].size(); });
    for (std::int64_t p = 0; p < v.block; ++p) {
      position_[unit * v.block + row_at[p]] = static_cast<std::uint8_t>(p);
      std::int32_t sum = 0;
      for (const Nonzero& nonzero : rows[row_at[p]]) sum += nonzero.weight;
      // 128 * sum may wrap: so does the sum that starts from it, and the result fits.
      start_[unit * v.block + p] = static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(sum) * 128u);
    }

    std::vector<Lane> lanes(static_cast<std::size_t>(v.geometry.rows));
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const auto begin = static_cast<std::int32_t>(chunk * v.geometry.chunk);
      const auto before = [](const Nonzero& a, std::int32_t column) { return a.column < column; };
      for (std::int64_t group = 0; group < v.groups_per_block; ++group) {
        segment_[(unit * v.chunks + chunk) * v.groups_per_block + group] = static_cast<std::int64_t>(out.window.size());
        for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
          std::vector<Nonzero>& row = rows[row_at[group * v.geometry.rows + static_cast<std::int64_t>(lane)]];
          Nonzero* const row_end = row.data() + row.size();
          lanes[lane].next = std::lower_bound(row.data(), row_end, begin, before);
          lanes[lane].end = std::lower_bound(row.data(), row_end, begin + v.geometry.chunk, before);
        }
        pack_group(v.geometry, begin, lanes, out);
      }
    }
  }

  Scratch scratch_;
  GatheredView view_{};
  std::int64_t units_ = 0;
  std::vector<std::int8_t> codes_;
  AlignedBuffer<std::int64_t> segment_;
  AlignedBuffer<std::uint16_t> window_;
  AlignedBuffer<std::uint8_t> vectors_, row_at_, position_;
  AlignedBuffer<std::int32_t> start_;
  AlignedBuffer<float> scale_;
};

std::unique_ptr<Weight> pack(const WeightSource& source, const GatheredGeometry& geometry, GatheredWeight::Block block, GatheredWeight::Scratch scratch) {
  if (source.n() < 1) throw ShapeError("gathered_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("gathered_q8: expected int8 weights, got float");
  return std::make_unique<GatheredWeight>(source, geometry, block, scratch);
}

}  // namespace

std::unique_ptr<Weight> pack_gathered_q8_avx2(const WeightSource& source) {
  return pack(source, kAvx2, usual_sort_block, [](const GatheredView& v) { return gathered_scratch_avx2(v.k, v.block); });
}

std::unique_ptr<Weight> pack_gathered_q8_avx512vnni(const WeightSource& source) {
  return pack(source, kAvx512, cheapest_sort_block, [](const GatheredView& v) { return gathered_scratch_avx512(v.geometry.chunk); });
}

std::unique_ptr<Weight> pack_gathered_q8_scalar(const WeightSource& source) {
  return pack(source, kAvx512, cheapest_sort_block, [](const GatheredView&) { return std::size_t{0}; });
}

std::unique_ptr<Weight> pack_gathered_q8_avxvnni(const WeightSource& source) {
  return pack(source, kAvxVnni, usual_sort_block, [](const GatheredView& v) { return gathered_scratch_avxvnni(v.chunks, v.block); });
}

std::unique_ptr<Weight> pack_gathered_q8_neondot(const WeightSource& source) {
  return pack(source, kNeonDot, usual_sort_block, [](const GatheredView& v) { return gathered_scratch_neondot(v.geometry.chunk); });
}

}  // namespace aerogel
