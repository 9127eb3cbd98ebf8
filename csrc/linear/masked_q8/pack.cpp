// Packs masked_q8 (layout.h draws it): every panel as dense_q8 has it, then without its zeros.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/masked_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

class MaskedQ8 final : public Weight {
 public:
  MaskedQ8(const WeightSource& source, const DenseQ8Panel& panel, bool mirrored, const DenseQ8Tiling* tiling, bool expands_panel)
      : Weight(source.n(), source.k(), source.nonzeros()), panel_(panel), mirrored_(mirrored), tiling_(tiling), expands_panel_(expands_panel) {
    if (!source.quantized()) throw DataError("masked_q8: expected int8 codes with scales, got float weights");
    const std::int64_t k_padded = round_up<std::int64_t>(k(), 16), panel_bytes = panel_.rows * k_padded;
    mask_ = AlignedBuffer<std::uint64_t>(static_cast<std::size_t>(units() * panel_bytes / 64));
    values_ = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(nonzeros() + 2 * kMaskedQ8Slack));
    std::int8_t* const values = values_.data() + kMaskedQ8Slack;
    panel_begin_ = AlignedBuffer<std::int64_t>(static_cast<std::size_t>(units() + 1));
    scale_ = AlignedBuffer<float>::zeros(static_cast<std::size_t>(units() * panel_.rows));
    most_ = AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(units()));
    view_ = {n(), k(), k_padded, mask_.data(), values, panel_begin_.data(), scale_.data(), most_.data()};

    std::vector<std::int8_t> row(static_cast<std::size_t>(k())), dense(static_cast<std::size_t>(panel_bytes));
    std::uint64_t* word = mask_.data();
    std::int64_t value = 0;
    for (std::int64_t unit = 0; unit < units(); ++unit) {
      panel_begin_[static_cast<std::size_t>(unit)] = value;
      std::memset(dense.data(), 0, dense.size());
      for (std::int64_t r = 0; r < panel_.rows && unit * panel_.rows + r < n(); ++r) {
        const std::int64_t i = unit * panel_.rows + r;
        source.row_q8(i, row.data());
        scale_[static_cast<std::size_t>(i)] = source.scale(i);
        for (std::int64_t c = 0; c < k(); ++c) dense[static_cast<std::size_t>(index(r, c))] = row[static_cast<std::size_t>(c)];
      }
      for (std::int64_t b = 0; b < panel_bytes; b += 64, ++word) {
        *word = 0;
        for (std::int64_t i = 0; i < 64; ++i)
          if (dense[static_cast<std::size_t>(b + i)] != 0) *word |= std::uint64_t{1} << i;
        for (std::uint64_t bits = *word; bits != 0; bits &= bits - 1) {
          const int i = __builtin_ctzll(bits);
          values[value + place(*word, i)] = static_cast<std::int8_t>(dense[static_cast<std::size_t>(b + i)] ^ panel_.offset);
        }
        const int count = __builtin_popcountll(*word);
        std::uint8_t& most = most_[static_cast<std::size_t>(unit)];
        most = std::max(most, static_cast<std::uint8_t>(count));
        value += count;
      }
    }
    panel_begin_[static_cast<std::size_t>(units())] = value;
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    return {bytes_of(mask_), bytes_of(values_), bytes_of(panel_begin_), bytes_of(scale_), bytes_of(most_)};
  }
  std::int64_t units() const override { return (n() + panel_.rows - 1) / panel_.rows; }
  // Expanding costs the same whatever there is to expand, reading costs bytes.
  std::int64_t cost(std::int64_t unit) const override {
    return unit * panel_.rows * view_.k_padded / 2 + panel_begin_[static_cast<std::size_t>(unit)];
  }
  std::size_t scratch_bytes(std::int64_t m) const override {
    if (tiling_ != nullptr) return dense_q8_scratch_bytes(*tiling_, view_.k_padded, m);
    return expands_panel_ ? static_cast<std::size_t>(panel_.rows * view_.k_padded) : 0;
  }
  void row_f32(std::int64_t n, float* out) const override {
    const std::int64_t unit = n / panel_.rows, r = n % panel_.rows;
    const std::uint64_t* words = mask_.data() + unit * panel_.rows * view_.k_padded / 64;
    const std::int8_t* value = view_.values + panel_begin_[static_cast<std::size_t>(unit)];
    std::int64_t at = 0;  // word whose first value is `value`
    for (std::int64_t c = 0; c < k(); ++c) {
      const std::int64_t byte = index(r, c);
      for (; at < byte / 64; ++at) value += __builtin_popcountll(words[at]);
      const int b = static_cast<int>(byte % 64);
      const auto code = static_cast<std::int8_t>((words[at] >> b & 1) != 0 ? value[place(words[at], b)] ^ panel_.offset : 0);
      out[c] = static_cast<float>(code) * scale_[static_cast<std::size_t>(n)];
    }
  }

 private:
  // Where in its dense panel row r has column c.
  std::int64_t index(std::int64_t r, std::int64_t c) const {
    const std::int64_t g = panel_.group;
    return (c / g * panel_.rows + r) * g + c % g;
  }

  // Among the values of a word, where that of bit b stands.
  int place(std::uint64_t word, int b) const {
    const std::uint64_t before = word & ((std::uint64_t{1} << b) - 1);
    if (!mirrored_ || b % 32 < 16) return __builtin_popcountll(before);
    const int start = b / 32 * 32;  // of 32 bits, and the last 16 of them run down
    return __builtin_popcountll(word & (~std::uint64_t{0} >> (32 - start))) - 1 - __builtin_popcountll(before >> (start + 16));
  }

  const DenseQ8Panel panel_;
  const bool mirrored_;
  const DenseQ8Tiling* const tiling_;  // null: the kernel has none
  const bool expands_panel_;           // the kernel needs scratch for one dense panel instead
  AlignedBuffer<std::uint64_t> mask_;
  AlignedBuffer<std::int8_t> values_;
  AlignedBuffer<std::int64_t> panel_begin_;
  AlignedBuffer<float> scale_;
  AlignedBuffer<std::uint8_t> most_;
  MaskedQ8View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_masked_q8_scalar(const WeightSource& source) {
  return std::make_unique<MaskedQ8>(source, kDenseQ8Scalar, false, nullptr, false);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_masked_q8_avx2(const WeightSource& source) {
  return std::make_unique<MaskedQ8>(source, kDenseQ8Avx2, true, &kMaskedQ8TilingAvx2, false);
}
std::unique_ptr<Weight> pack_masked_q8_avx512vnni(const WeightSource& source) {
  return std::make_unique<MaskedQ8>(source, kDenseQ8Avx512, false, &kMaskedQ8TilingAvx512, false);
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_masked_q8_neon(const WeightSource& source) {
  return std::make_unique<MaskedQ8>(source, kDenseQ8Neon, false, nullptr, true);
}
#endif

}  // namespace aerogel
