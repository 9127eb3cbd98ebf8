#include <vector>

#include "base/f16.h"
#include "linear/dense_f16/layout.h"
#include "linear/dense_f32/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

using dense_f16::View;
using dense_f32::Shape;

class DenseF16 final : public Weight {
 public:
  DenseF16(const WeightSource& source, const Shape& shape)
      : Weight(source.n(), source.k(), source.nonzeros()),
        shape_(shape),
        units_((n() + shape.panel - 1) / shape.panel),
        panels_(AlignedBuffer<std::uint16_t>::zeros(static_cast<std::size_t>(units_ * k() * shape.panel))) {
    std::vector<std::uint16_t> row(static_cast<std::size_t>(k()));
    for (std::int64_t r = 0; r < n(); ++r) {
      source.row_f16(r, row.data());
      std::uint16_t* out = panels_.data() + place(r);
      for (std::int64_t i = 0; i < k(); ++i) out[i * shape.panel] = row[static_cast<std::size_t>(i)];
    }
    view_ = {panels_.data(), n(), k()};
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(panels_)}; }
  std::int64_t units() const override { return units_; }
  std::int64_t cost(std::int64_t unit) const override { return unit; }

  std::size_t scratch_bytes(std::int64_t m) const override {
    const std::size_t x = dense_f32::scratch_bytes(shape_, k(), m);
    return m <= shape_.tile || x == 0 ? x : x + static_cast<std::size_t>(shape_.chunk * shape_.panel) * sizeof(float);
  }

  void row_f32(std::int64_t n, float* out) const override {
    const std::uint16_t* lane = panels_.data() + place(n);
    for (std::int64_t i = 0; i < k(); ++i) out[i] = f16_to_float(lane[i * shape_.panel]);
  }

 private:
  // Where w[row][0] is.
  std::int64_t place(std::int64_t row) const { return row / shape_.panel * k() * shape_.panel + row % shape_.panel; }

  Shape shape_;
  std::int64_t units_;
  AlignedBuffer<std::uint16_t> panels_;
  View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_dense_f16_scalar(const WeightSource& source) {
  return std::make_unique<DenseF16>(source, dense_f32::kScalar);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_dense_f16_avx2(const WeightSource& source) {
  return std::make_unique<DenseF16>(source, dense_f32::kAvx2);
}
std::unique_ptr<Weight> pack_dense_f16_avx512vnni(const WeightSource& source) {
  return std::make_unique<DenseF16>(source, dense_f32::kAvx512);
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_dense_f16_neon(const WeightSource& source) {
  return std::make_unique<DenseF16>(source, dense_f32::kNeon);
}
#endif

}  // namespace aerogel
