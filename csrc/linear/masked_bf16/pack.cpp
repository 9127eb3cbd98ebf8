#include <algorithm>
#include <vector>

#include "base/bf16.h"
#include "linear/dense_f32/layout.h"
#include "linear/masked_bf16/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

using dense_f32::Shape;
using masked_bf16::kPadding;
using masked_bf16::kSection;
using masked_bf16::View;

class MaskedBf16 final : public Weight {
 public:
  MaskedBf16(const WeightSource& source, const Shape& shape)
      : Weight(source.n(), source.k(), source.nonzeros()),
        shape_(shape),
        units_((n() + shape.panel - 1) / shape.panel),
        sections_((k() + kSection - 1) / kSection),
        masks_(AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(units_ * k() * shape.panel / 8))),
        values_(AlignedBuffer<std::uint16_t>::zeros(static_cast<std::size_t>(source.nonzeros() + kPadding))),
        begin_(static_cast<std::size_t>(units_ * sections_ + 1)) {
    std::vector<std::uint16_t> rows(static_cast<std::size_t>(shape.panel * k()));
    std::uint8_t* mask = masks_.data();
    std::int64_t count = 0;
    for (std::int64_t unit = 0; unit < units_; ++unit) {
      const std::int64_t first = unit * shape.panel, real = std::min<std::int64_t>(shape.panel, n() - first);
      for (std::int64_t r = 0; r < real; ++r) source.row_bf16(first + r, rows.data() + r * k());
      for (std::int64_t i = 0; i < k(); ++i, mask += shape.panel / 8) {
        if (i % kSection == 0) begin_[static_cast<std::size_t>(unit * sections_ + i / kSection)] = count;
        for (std::int64_t r = 0; r < real; ++r) {
          const std::uint16_t value = rows[static_cast<std::size_t>(r * k() + i)];
          if ((value & 0x7fff) == 0) continue;
          mask[r / 8] = static_cast<std::uint8_t>(mask[r / 8] | 1u << (r % 8));
          values_[static_cast<std::size_t>(count++)] = value;
        }
      }
    }
    begin_[begin_.size() - 1] = count;
    view_ = {masks_.data(), values_.data(), begin_.data(), n(), k(), sections_};
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(masks_), bytes_of(values_), bytes_of(begin_)}; }
  std::int64_t units() const override { return units_; }
  std::int64_t cost(std::int64_t unit) const override { return unit; }  // every panel costs its dense multiplications

  std::size_t scratch_bytes(std::int64_t m) const override {
    const std::size_t x = dense_f32::scratch_bytes(shape_, k(), m);
    return m <= shape_.tile || x == 0 ? x : x + static_cast<std::size_t>(shape_.chunk * shape_.panel) * sizeof(float);
  }

  void row_f32(std::int64_t n, float* out) const override {
    const std::int64_t unit = n / shape_.panel, lane = n % shape_.panel, stride = shape_.panel / 8;
    const std::uint8_t* mask = masks_.data() + unit * k() * stride;
    const std::uint16_t* next = values_.data() + begin_[static_cast<std::size_t>(unit * sections_)];
    for (std::int64_t i = 0; i < k(); ++i, mask += stride) {
      out[i] = 0.0f;
      for (std::int64_t r = 0; r < shape_.panel; ++r) {
        if (((mask[r / 8] >> (r % 8)) & 1) == 0) continue;
        if (r == lane) out[i] = bf16_to_float(*next);
        ++next;
      }
    }
  }

 private:
  Shape shape_;
  std::int64_t units_, sections_;
  AlignedBuffer<std::uint8_t> masks_;
  AlignedBuffer<std::uint16_t> values_;
  AlignedBuffer<std::int64_t> begin_;
  View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_masked_bf16_scalar(const WeightSource& source) {
  return std::make_unique<MaskedBf16>(source, dense_f32::kScalar);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_masked_bf16_avx2(const WeightSource& source) {
  return std::make_unique<MaskedBf16>(source, dense_f32::kAvx2);
}
std::unique_ptr<Weight> pack_masked_bf16_avx512vnni(const WeightSource& source) {
  return std::make_unique<MaskedBf16>(source, dense_f32::kAvx512);
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_masked_bf16_neon(const WeightSource& source) {
  return std::make_unique<MaskedBf16>(source, dense_f32::kNeon);
}
#endif

}  // namespace aerogel
