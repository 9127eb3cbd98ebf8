// Packs masked_q4 (layout.h draws it): every panel as dense_q4 has it, then without its zeros.
#include <cstring>
#include <vector>

#include "base/aligned.h"
#include "linear/masked_q4/layout.h"
#include "linear/source_q4.h"

namespace aerogel {
namespace {

constexpr std::int64_t kTableOrder[4] = {0, 2, 1, 3};

class MaskedQ4 final : public Weight {
 public:
  using Scratch = std::size_t (*)(bool linear, std::int64_t k_padded, std::int64_t m);

  MaskedQ4(const WeightSource& weights, const DenseQ8Panel& panel, bool orders_tables, Scratch scratch)
      : Weight(weights.n(), weights.k(), weights.nonzeros()), panel_(panel), scratch_(scratch) {
    const SourceQ4 source(weights, "masked_q4", true);
    const std::int64_t k_padded = round_up(k(), kQ4Block), rows = units() * panel_.rows, groups = source.groups();
    const std::int64_t panel_weights = panel_.rows * k_padded;
    swaps_ = orders_tables && !source.linear();
    mask_ = AlignedBuffer<std::uint64_t>::zeros(static_cast<std::size_t>(units() * panel_weights / 64));
    panel_begin_ = AlignedBuffer<std::int64_t>(static_cast<std::size_t>(units() + 1));
    if (source.multipliers()) multiplier_ = AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(rows * groups));
    if (source.offsets()) zero_ = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(rows * groups));
    if (source.offsets()) offset_ = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(rows * groups));
    levels_ = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(units() * 16));
    scale_ = AlignedBuffer<float>::zeros(static_cast<std::size_t>(rows));

    std::vector<std::uint8_t> packed;
    std::vector<std::uint8_t> dense(static_cast<std::size_t>(panel_weights));  // values, kNotStored where there is none
    std::vector<std::int8_t> zeros(static_cast<std::size_t>(groups));
    SourceQ4::Row row;
    for (std::int64_t unit = 0; unit < units(); ++unit) {
      std::memset(dense.data(), WeightSource::kNotStored, dense.size());
      for (std::int64_t r = 0; r < panel_.rows && unit * panel_.rows + r < n(); ++r) {
        const std::int64_t i = unit * panel_.rows + r;
        source.row(i, &row);
        scale_[static_cast<std::size_t>(i)] = row.scale;
        std::memcpy(levels_.data() + unit * 16, row.levels, 16);
        for (std::int64_t g = 0; g < groups; ++g) zeros[static_cast<std::size_t>(g)] = static_cast<std::int8_t>(row.zero_index(g));
        for (std::int64_t c = 0; c < k(); ++c) {
          const auto g = static_cast<std::size_t>(c / source.group());
          const std::uint8_t index = row.index[static_cast<std::size_t>(c)];
          if (index == WeightSource::kNotStored || row.levels[index] * row.multiplier[g] + row.offset[g] == 0) continue;
          const int zero = source.linear() ? zeros[g] : 0;
          dense[static_cast<std::size_t>(place(r, c, source.linear()))] = static_cast<std::uint8_t>(index ^ zero);
        }
        for (std::int64_t g = 0; g < groups; ++g) {
          const auto at = static_cast<std::size_t>((unit * groups + g) * panel_.rows + r);
          if (source.multipliers()) multiplier_[at] = row.multiplier[static_cast<std::size_t>(g)];
          if (!source.offsets()) continue;
          zero_[at] = zeros[static_cast<std::size_t>(g)];
          offset_[at] = row.offset[static_cast<std::size_t>(g)];
        }
      }
      std::int64_t count = static_cast<std::int64_t>(packed.size()) * 2;
      panel_begin_[static_cast<std::size_t>(unit)] = count;
      for (std::int64_t i = 0; i < panel_weights; ++i) {
        const std::uint8_t value = dense[static_cast<std::size_t>(i)];
        if (value == WeightSource::kNotStored) continue;
        mask_[static_cast<std::size_t>((unit * panel_weights + i) / 64)] |= std::uint64_t{1} << (i % 64);
        if (count++ % 2 == 0) packed.push_back(value);
        else packed.back() = static_cast<std::uint8_t>(packed.back() | value << 4);
      }
    }
    panel_begin_[static_cast<std::size_t>(units())] = static_cast<std::int64_t>(packed.size()) * 2;
    values_ = AlignedBuffer<std::uint8_t>::zeros(packed.size() + kMaskedQ4Slack);
    if (!packed.empty()) std::memcpy(values_.data(), packed.data(), packed.size());
    view_ = {n(),
             k(),
             k_padded,
             source.group(),
             groups,
             mask_.data(),
             values_.data(),
             panel_begin_.data(),
             source.multipliers() ? multiplier_.data() : nullptr,
             source.offsets() ? zero_.data() : nullptr,
             source.offsets() ? offset_.data() : nullptr,
             levels_.data(),
             scale_.data(),
             source.linear(),
             source.zero()};
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(mask_), bytes_of(values_), bytes_of(panel_begin_), bytes_of(multiplier_), bytes_of(zero_), bytes_of(offset_), bytes_of(levels_), bytes_of(scale_)};
  }
  std::int64_t units() const override { return (n() + panel_.rows - 1) / panel_.rows; }
  // Expanding costs the same whatever there is to expand, reading costs bytes.
  std::int64_t cost(std::int64_t unit) const override {
    return unit * panel_.rows * view_.k_padded + panel_begin_[static_cast<std::size_t>(unit)];
  }
  std::size_t scratch_bytes(std::int64_t m) const override {
    return scratch_ == nullptr ? 0 : scratch_(view_.linear, view_.k_padded, m);
  }
  void row_f32(std::int64_t n, float* out) const override {
    const std::int64_t unit = n / panel_.rows, r = n % panel_.rows;
    const std::uint64_t* words = mask_.data() + unit * panel_.rows * view_.k_padded / 64;
    const std::int8_t* levels = levels_.data() + unit * 16;
    std::int64_t value = panel_begin_[static_cast<std::size_t>(unit)], at = 0;  // word whose first value is `value`
    for (std::int64_t step = 0; step < k(); step += panel_.group)  // places rise with steps, not within one
      for (std::int64_t c = step; c < k() && c < step + panel_.group; ++c) {
        const std::int64_t bit = place(r, c, view_.linear);
        for (; at < bit / 64; ++at) value += __builtin_popcountll(words[at]);
        int code = 0;
        if ((words[at] >> (bit % 64) & 1) != 0) {
          const std::int64_t v = value + __builtin_popcountll(words[at] & ((std::uint64_t{1} << (bit % 64)) - 1));
          const auto group = static_cast<std::size_t>((unit * view_.groups + c / view_.group) * panel_.rows + r);
          const int zero = view_.zero != nullptr ? view_.zero[group] : view_.same_zero;
          const int index = (values_[static_cast<std::size_t>(v / 2)] >> (v % 2 * 4) & 15) ^ zero;
          code = (levels[index] - zero) * (view_.multiplier != nullptr ? view_.multiplier[group] : 1);
        }
        out[c] = static_cast<float>(code) * scale_[static_cast<std::size_t>(n)];
      }
  }

 private:
  // Where in its panel row r has column c.
  std::int64_t place(std::int64_t r, std::int64_t c, bool linear) const {
    const std::int64_t g = panel_.group;
    return (c / g * panel_.rows + r) * g + (swaps_ && !linear ? kTableOrder[c % g] : c % g);
  }

  const DenseQ8Panel panel_;
  const Scratch scratch_;
  bool swaps_ = false;  // the columns of a step
  AlignedBuffer<std::uint64_t> mask_;
  AlignedBuffer<std::uint8_t> values_;
  AlignedBuffer<std::int64_t> panel_begin_;
  AlignedBuffer<std::uint8_t> multiplier_;
  AlignedBuffer<std::int8_t> zero_;
  AlignedBuffer<std::int8_t> offset_;
  AlignedBuffer<std::int8_t> levels_;
  AlignedBuffer<float> scale_;
  MaskedQ4View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_masked_q4_scalar(const WeightSource& source) {
  return std::make_unique<MaskedQ4>(source, kDenseQ4Scalar, false, nullptr);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_masked_q4_avx2(const WeightSource& source) {
  return std::make_unique<MaskedQ4>(source, kDenseQ4Avx2, true, [](bool linear, std::int64_t k_padded, std::int64_t m) {
    return masked_q4_room_avx2(linear, k_padded, m) + 2 * kMaskedQ4RoomAvx2 + kMaskedQ4RoomSlack;
  });
}
std::unique_ptr<Weight> pack_masked_q4_avx512vnni(const WeightSource& source) {
  return std::make_unique<MaskedQ4>(source, kDenseQ4Avx512, false, [](bool linear, std::int64_t k_padded, std::int64_t m) {
    return masked_q4_room_avx512(linear, k_padded, m) + 2 * kMaskedQ4RoomAvx512 + kMaskedQ4RoomSlack;
  });
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_masked_q4_neon(const WeightSource& source) {
  return std::make_unique<MaskedQ4>(source, kDenseQ4Neon, false, [](bool, std::int64_t k_padded, std::int64_t) {
    return static_cast<std::size_t>(2 * kDenseQ4Neon.rows * k_padded + kMaskedQ4RoomSlack);
  });
}
#endif

}  // namespace aerogel
