#include <algorithm>
#include <vector>

#include "linear/dense_f32/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

using dense_f32::Shape;
using dense_f32::View;

class DenseF32 final : public Weight {
 public:
  DenseF32(const WeightSource& source, const Shape& shape)
      : Weight(source.n(), source.k(), source.nonzeros()),
        shape_(shape),
        units_((n() + shape.panel - 1) / shape.panel),
        panels_(static_cast<std::size_t>(units_) * static_cast<std::size_t>(k()) * static_cast<std::size_t>(shape.panel)) {
    const std::int64_t rows = shape.panel;
    std::vector<float> row(static_cast<std::size_t>(rows * k()), 0.0f);
    for (std::int64_t unit = 0; unit < units_; ++unit) {
      const std::int64_t real = std::min(rows, n() - unit * rows);
      for (std::int64_t r = 0; r < real; ++r) source.row_f32(unit * rows + r, row.data() + r * k());
      std::fill(row.begin() + real * k(), row.end(), 0.0f);
      float* out = panels_.data() + unit * k() * rows;
      for (std::int64_t i = 0; i < k(); ++i)
        for (std::int64_t r = 0; r < rows; ++r) *out++ = row[static_cast<std::size_t>(r * k() + i)];
    }
    view_ = {panels_.data(), n(), k()};
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(panels_)}; }
  std::int64_t units() const override { return units_; }
  std::int64_t cost(std::int64_t unit) const override { return unit; }

  std::size_t scratch_bytes(std::int64_t m) const override { return dense_f32::scratch_bytes(shape_, k(), m); }

  void row_f32(std::int64_t n, float* out) const override {
    const float* lane = panels_.data() + n / shape_.panel * k() * shape_.panel + n % shape_.panel;
    for (std::int64_t i = 0; i < k(); ++i) out[i] = lane[i * shape_.panel];
  }

 private:
  Shape shape_;
  std::int64_t units_;
  AlignedBuffer<float> panels_;
  View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_dense_f32_scalar(const WeightSource& source) {
  return std::make_unique<DenseF32>(source, dense_f32::kScalar);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_dense_f32_avx2(const WeightSource& source) {
  return std::make_unique<DenseF32>(source, dense_f32::kAvx2);
}
std::unique_ptr<Weight> pack_dense_f32_avx512vnni(const WeightSource& source) {
  return std::make_unique<DenseF32>(source, dense_f32::kAvx512);
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_dense_f32_neon(const WeightSource& source) {
  return std::make_unique<DenseF32>(source, dense_f32::kNeon);
}
#endif

}  // namespace aerogel
