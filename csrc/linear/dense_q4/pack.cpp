#include <cstring>

#include "base/aligned.h"
#include "linear/dense_q4/layout.h"
#include "linear/source_q4.h"

namespace aerogel {
namespace {

// Where a column of a step stands on avx2 if levels are looked up.
constexpr std::int64_t kTableOrder[4] = {0, 2, 1, 3};

class DenseQ4 final : public Weight {
 public:
  // Of SourceQ4::linear() and of tables; null: the kernel needs none.
  using Scratch = std::size_t (*)(bool linear, std::int64_t k_padded, std::int64_t m);

  DenseQ4(const WeightSource& weights, const DenseQ8Panel& panel, bool orders_tables, Scratch scratch)
      : Weight(weights.n(), weights.k(), weights.nonzeros()), panel_(panel), scratch_(scratch) {
    const SourceQ4 source(weights, "dense_q4", false);
    const std::int64_t k_padded = round_up(k(), kQ4Block), rows = units() * panel_.rows, groups = source.groups();
    swaps_ = orders_tables && !source.linear();
    index_ = AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(rows * k_padded / 2));
    if (source.multipliers()) multiplier_ = AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(rows * groups));
    if (source.offsets()) offset_ = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(rows * groups));
    levels_ = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(units() * 16));
    scale_ = AlignedBuffer<float>::zeros(static_cast<std::size_t>(rows));
    view_ = {n(),
             k(),
             k_padded,
             source.group(),
             groups,
             index_.data(),
             source.multipliers() ? multiplier_.data() : nullptr,
             source.offsets() ? offset_.data() : nullptr,
             levels_.data(),
             scale_.data(),
             source.linear(),
             source.zero()};

    SourceQ4::Row row;
    for (std::int64_t i = 0; i < n(); ++i) {
      source.row(i, &row);
      scale_[static_cast<std::size_t>(i)] = row.scale;
      std::memcpy(levels_.data() + i / panel_.rows * 16, row.levels, 16);
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t at = group_at(i, g);
        if (source.multipliers()) multiplier_[static_cast<std::size_t>(at)] = row.multiplier[static_cast<std::size_t>(g)];
        if (source.offsets()) offset_[static_cast<std::size_t>(at)] = row.offset[static_cast<std::size_t>(g)];
        const int none = row.zero_index(g);  // -1 only where no weight is left out
        const std::int64_t end = g + 1 < groups ? (g + 1) * source.group() : k();
        for (std::int64_t c = g * source.group(); c < end; ++c) {
          const int index = row.index[static_cast<std::size_t>(c)] == WeightSource::kNotStored ? none : row.index[static_cast<std::size_t>(c)];
          int shift = 0;
          std::uint8_t& byte = index_[static_cast<std::size_t>(index_at(i, c, &shift))];
          byte = static_cast<std::uint8_t>(byte | index << shift);
        }
      }
    }
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(index_), bytes_of(multiplier_), bytes_of(offset_), bytes_of(levels_), bytes_of(scale_)};
  }
  std::int64_t units() const override { return (n() + panel_.rows - 1) / panel_.rows; }
  std::int64_t cost(std::int64_t unit) const override { return unit * panel_.rows * view_.k_padded; }
  std::size_t scratch_bytes(std::int64_t m) const override {
    return scratch_ == nullptr ? 0 : scratch_(view_.linear, view_.k_padded, m);
  }
  void row_f32(std::int64_t n, float* out) const override {
    const std::int8_t* levels = levels_.data() + n / panel_.rows * 16;
    for (std::int64_t c = 0; c < k(); ++c) {
      const auto group = static_cast<std::size_t>(group_at(n, c / view_.group));
      const int offset = view_.offset != nullptr ? view_.offset[group] : 0;
      const int multiplier = view_.multiplier != nullptr ? view_.multiplier[group] : 1;
      int shift = 0;
      const std::int64_t at = index_at(n, c, &shift);
      const int step = levels[index_[static_cast<std::size_t>(at)] >> shift & 15] - view_.same_zero;
      out[c] = static_cast<float>(step * multiplier + offset) * scale_[static_cast<std::size_t>(n)];
    }
  }

 private:
  std::int64_t group_at(std::int64_t n, std::int64_t g) const { return (n / panel_.rows * view_.groups + g) * panel_.rows + n % panel_.rows; }

  // The byte, and its half.
  std::int64_t index_at(std::int64_t n, std::int64_t k, int* shift) const {
    const std::int64_t r = panel_.rows, g = panel_.group, half = r * g / 2;
    const std::int64_t in_step = n % r * g + (swaps_ ? kTableOrder[k % g] : k % g);
    *shift = in_step < half ? 0 : 4;
    return (n / r * (view_.k_padded / g) + k / g) * half + in_step % half;
  }

  const DenseQ8Panel panel_;
  const Scratch scratch_;
  bool swaps_ = false;  // the columns of a step
  AlignedBuffer<std::uint8_t> index_;
  AlignedBuffer<std::uint8_t> multiplier_;
  AlignedBuffer<std::int8_t> offset_;
  AlignedBuffer<std::int8_t> levels_;
  AlignedBuffer<float> scale_;
  DenseQ4View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_dense_q4_scalar(const WeightSource& source) {
  return std::make_unique<DenseQ4>(source, kDenseQ4Scalar, false, nullptr);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_dense_q4_avx2(const WeightSource& source) {
  return std::make_unique<DenseQ4>(source, kDenseQ4Avx2, true, [](bool linear, std::int64_t k_padded, std::int64_t m) {
    return linear ? dense_q4_scratch_bytes(kDenseQ4TilingAvx2, k_padded, m) : dense_q8_scratch_bytes(kDenseQ4TilingTableAvx2, k_padded, m);
  });
}
std::unique_ptr<Weight> pack_dense_q4_avx512vnni(const WeightSource& source) {
  return std::make_unique<DenseQ4>(source, kDenseQ4Avx512, false, [](bool linear, std::int64_t k_padded, std::int64_t m) {
    return linear ? dense_q4_scratch_bytes(kDenseQ4TilingAvx512, k_padded, m) : dense_q8_scratch_bytes(kDenseQ4TilingTableAvx512, k_padded, m);
  });
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_dense_q4_neon(const WeightSource& source) {
  return std::make_unique<DenseQ4>(source, kDenseQ4Neon, false, [](bool, std::int64_t k_padded, std::int64_t) {
    return static_cast<std::size_t>(kDenseQ4Neon.rows * k_padded);
  });
}
#endif

}  // namespace aerogel
