#include <cstring>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "kernels/table.h"
#include "linear/dense_q8/layout.h"

namespace aerogel {
namespace {

// One row into its lane: G bytes of every column group, `step` bytes apart. G is a constant because a copy of 2 bytes
// should not be a call.
template <std::size_t G>
void scatter(const std::int8_t* row, std::int64_t k_padded, std::int64_t step, std::int8_t* out) {
  for (std::int64_t k = 0; k < k_padded; k += G, out += step) std::memcpy(out, row + k, G);
}

class DenseQ8 final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t k_padded, std::int64_t m);

  DenseQ8(const WeightSource& source, const DenseQ8Panel& panel, Scratch scratch)
      : Weight(source.n(), source.k(), source.nonzeros()), panel_(panel), scratch_(scratch) {
    if (!source.quantized()) throw DataError("dense_q8: expected int8 codes with scales, got float weights");
    const std::int64_t k_padded = round_up<std::int64_t>(k(), 16);
    const std::int64_t n_padded = round_up(n(), panel_.rows);
    codes_ = AlignedBuffer<std::int8_t>(static_cast<std::size_t>(n_padded * k_padded));
    scale_ = AlignedBuffer<float>::zeros(static_cast<std::size_t>(n_padded));
    view_ = {n(), k(), k_padded, codes_.data(), scale_.data()};

    std::vector<std::int8_t> row(static_cast<std::size_t>(k_padded));
    for (std::int64_t i = 0; i < n_padded; ++i) {
      if (i < n()) {
        source.row_q8(i, row.data());
        scale_[static_cast<std::size_t>(i)] = source.scale(i);
      } else {
        std::memset(row.data(), 0, row.size());
      }
      if (panel_.offset != 0)
        for (std::int8_t& code : row) code = static_cast<std::int8_t>(code ^ panel_.offset);  // + 128 modulo 256
      const auto copy = panel_.group == 2 ? scatter<2> : panel_.group == 4 ? scatter<4> : scatter<16>;
      copy(row.data(), k_padded, panel_.rows * panel_.group, codes_.data() + index(i, 0));
      if (panel_.offset != 0) std::memset(row.data() + k(), 0, static_cast<std::size_t>(k_padded - k()));
    }
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(codes_), bytes_of(scale_)}; }
  std::int64_t units() const override { return (n() + panel_.rows - 1) / panel_.rows; }
  std::int64_t cost(std::int64_t unit) const override { return unit * panel_.rows * view_.k_padded; }
  std::size_t scratch_bytes(std::int64_t m) const override {
    return scratch_ == nullptr ? 0 : scratch_(view_.k_padded, m);
  }
  void row_f32(std::int64_t n, float* out) const override {
    for (std::int64_t i = 0; i < k(); ++i) {
      const auto code = static_cast<std::int8_t>(codes_[static_cast<std::size_t>(index(n, i))] ^ panel_.offset);
      out[i] = static_cast<float>(code) * scale_[static_cast<std::size_t>(n)];
    }
  }

 private:
  std::int64_t index(std::int64_t n, std::int64_t k) const {
    const std::int64_t r = panel_.rows, g = panel_.group;
    return ((n / r * (view_.k_padded / g) + k / g) * r + n % r) * g + k % g;
  }

  const DenseQ8Panel panel_;
  const Scratch scratch_;  // null: the kernel needs none
  AlignedBuffer<std::int8_t> codes_;
  AlignedBuffer<float> scale_;
  DenseQ8View view_{};
};

}  // namespace

std::unique_ptr<Weight> pack_dense_q8_scalar(const WeightSource& source) {
  return std::make_unique<DenseQ8>(source, kDenseQ8Scalar, nullptr);
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_dense_q8_avx2(const WeightSource& source) {
  return std::make_unique<DenseQ8>(source, kDenseQ8Avx2, [](std::int64_t k_padded, std::int64_t m) {
    return dense_q8_scratch_bytes(kDenseQ8TilingAvx2, k_padded, m);
  });
}
std::unique_ptr<Weight> pack_dense_q8_avxvnni(const WeightSource& source) {
  return std::make_unique<DenseQ8>(source, kDenseQ8AvxVnni, [](std::int64_t k_padded, std::int64_t m) {
    return dense_q8_scratch_bytes(kDenseQ8TilingAvxVnni, k_padded, m);
  });
}
std::unique_ptr<Weight> pack_dense_q8_avx512vnni(const WeightSource& source) {
  return std::make_unique<DenseQ8>(source, kDenseQ8Avx512, [](std::int64_t k_padded, std::int64_t m) {
    return dense_q8_scratch_bytes(kDenseQ8TilingAvx512, k_padded, m);
  });
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_dense_q8_neon(const WeightSource& source) {
  return std::make_unique<DenseQ8>(source, kDenseQ8Neon, nullptr);
}
std::unique_ptr<Weight> pack_dense_q8_neondot(const WeightSource& source) {
  return std::make_unique<DenseQ8>(source, kDenseQ8NeonDot, dense_q8_neondot_scratch_bytes);
}
#endif

}  // namespace aerogel
