#include <cstring>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/fits.h"
#include "linear/grouped_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

class GroupedQ8 final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t k_padded, std::int64_t group, std::int64_t m);

  GroupedQ8(const WeightSource& source, const DenseQ8Panel& panel, Scratch scratch)
      : Weight(source.n(), source.k(), source.nonzeros()), panel_(panel), scratch_(scratch) {
    const std::string why = refusal_grouped_q8(source);
    if (!why.empty()) throw DataError("grouped_q8: " + why);
    const std::int64_t k_padded = round_up(k(), kGroupedQ8Multiple), rows = units() * panel_.rows;
    const std::int64_t group = source.group() < k() ? source.group() : k_padded, groups = (k() + group - 1) / group;
    codes_ = AlignedBuffer<std::int8_t>(static_cast<std::size_t>(rows * k_padded));
    std::memset(codes_.data(), panel_.offset, codes_.size());
    scale_ = AlignedBuffer<float>::zeros(static_cast<std::size_t>(rows * groups));
    view_ = {n(), k(), k_padded, group, groups, codes_.data(), scale_.data()};

    std::vector<std::int8_t> row(static_cast<std::size_t>(k()));
    std::vector<float> scales(static_cast<std::size_t>(groups));
    for (std::int64_t i = 0; i < n(); ++i) {
      source.row_q8g(i, row.data(), scales.data());
      for (std::int64_t g = 0; g < groups; ++g) scale_[static_cast<std::size_t>(scale_at(i, g))] = scales[static_cast<std::size_t>(g)];
      for (std::int64_t c = 0; c < k(); ++c)
        codes_[static_cast<std::size_t>(code_at(i, c))] = static_cast<std::int8_t>(row[static_cast<std::size_t>(c)] ^ panel_.offset);
    }
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(codes_), bytes_of(scale_)}; }
  std::int64_t units() const override { return (n() + panel_.rows - 1) / panel_.rows; }
  std::int64_t cost(std::int64_t unit) const override { return unit * panel_.rows * view_.k_padded; }
  std::size_t scratch_bytes(std::int64_t m) const override {
    return scratch_ == nullptr ? 0 : scratch_(view_.k_padded, view_.group, m);
  }
  void row_f32(std::int64_t n, float* out) const override {
    for (std::int64_t c = 0; c < k(); ++c) {
      const auto code = static_cast<std::int8_t>(codes_[static_cast<std::size_t>(code_at(n, c))] ^ panel_.offset);
      out[c] = static_cast<float>(code) * scale_[static_cast<std::size_t>(scale_at(n, c / view_.group))];
    }
  }

 private:
  std::int64_t scale_at(std::int64_t n, std::int64_t g) const { return (n / panel_.rows * view_.groups + g) * panel_.rows + n % panel_.rows; }
  std::int64_t code_at(std::int64_t n, std::int64_t k) const {
    const std::int64_t r = panel_.rows, g = panel_.group;
    return ((n / r * (view_.k_padded / g) + k / g) * r + n % r) * g + k % g;
  }

  const DenseQ8Panel panel_;
  const Scratch scratch_;  // null: the kernel needs none
  AlignedBuffer<std::int8_t> codes_;
  AlignedBuffer<float> scale_;
  GroupedQ8View view_{};
};

}  // namespace

std::string refusal_grouped_q8(const WeightSource& source) {
  if (!source.grouped()) return std::string("takes int8 codes with a scale each group, got ") + source.numbers();
  const std::int64_t group = source.group();
  if (group < source.k() && (group % kGroupedQ8Multiple != 0 || group > kGroupedQ8Most))
    return "takes groups of a multiple of 16 columns and at most 512, got " + std::to_string(group);
  if (group >= source.k() && source.k() > kGroupedQ8Most) return "takes groups of at most 512 columns, got one of " + std::to_string(source.k());
  return "";
}

std::unique_ptr<Weight> pack_grouped_q8_scalar(const WeightSource& source) {
  return std::make_unique<GroupedQ8>(source, kDenseQ8Scalar, nullptr);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_grouped_q8_avx2(const WeightSource& source) {
  return std::make_unique<GroupedQ8>(source, kDenseQ8Avx2, [](std::int64_t k_padded, std::int64_t group, std::int64_t m) {
    return grouped_q8_scratch_bytes(kGroupedQ8TilingAvx2, k_padded, group, 0, m);
  });
}
std::unique_ptr<Weight> pack_grouped_q8_avx512vnni(const WeightSource& source) {
  return std::make_unique<GroupedQ8>(source, kDenseQ8Avx512, [](std::int64_t k_padded, std::int64_t group, std::int64_t m) {
    return grouped_q8_scratch_bytes(kGroupedQ8TilingAvx512, k_padded, group, 4, m);
  });
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_grouped_q8_neon(const WeightSource& source) {
  return std::make_unique<GroupedQ8>(source, kDenseQ8Neon, nullptr);
}
#endif

}  // namespace aerogel
