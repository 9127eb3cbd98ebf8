// Packs quads_q8 (layout.h draws it).
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/quads_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

// Half an octet: 127 * 258 fits 16 bits.
constexpr std::int32_t kHalfOctet = 258;

struct Nonzero {
  std::int32_t column;
  std::int32_t weight;
};

template <class T>
AlignedBuffer<T> copy_of(const std::vector<T>& from) {
  auto buffer = AlignedBuffer<T>::zeros(from.size() + 1);  // never null, also when there is nothing
  std::copy(from.begin(), from.end(), buffer.data());
  return buffer;
}

class QuadsWeight final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t k);

  QuadsWeight(const WeightSource& source, Scratch scratch)
      : Weight(source.n(), source.k(), source.nonzeros()), scratch_(scratch) {
    QuadsView& v = view_;
    v.n = source.n();
    v.k = source.k();
    v.chunk = kQuadsChunk;
    v.chunks = (v.k + kQuadsChunk - 1) / kQuadsChunk;
    codes_.resize(static_cast<std::size_t>(v.k));
    scale_ = AlignedBuffer<float>::zeros(static_cast<std::size_t>(units() * kQuadsRows));
    for (std::int64_t n = 0; n < v.n; ++n) scale_[static_cast<std::size_t>(n)] = source.scale(n);
    make_quads(source);
    v.octet_begin = octet_begin_.data();
    v.octets = octets_.data();
    v.quad_begin = quad_begin_.data();
    v.quads = quads_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::size_t bytes() const override {
    return octet_begin_.bytes() + octets_.bytes() + quad_begin_.bytes() + quads_.bytes() + scale_.bytes();
  }
  std::int64_t units() const override { return (view_.n + kQuadsRows - 1) / kQuadsRows; }

  std::int64_t cost(std::int64_t unit) const override {
    // An octet costs three halves of a quad; the rows' own cost (writing the outputs) is about that of two quads a row.
    const std::int64_t row = std::min(unit * kQuadsRows, view_.n);
    std::int64_t sum = 4 * row;
    for (std::int64_t chunk = 0; chunk < view_.chunks; ++chunk) {
      const auto begin = static_cast<std::size_t>(chunk * view_.n), end = static_cast<std::size_t>(chunk * view_.n + row);
      sum += 3 * (octet_begin_[end] - octet_begin_[begin]) + 2 * (quad_begin_[end] - quad_begin_[begin]);
    }
    return sum;
  }

  std::size_t scratch_bytes(std::int64_t) const override { return scratch_(view_.k); }

  void row_f32(std::int64_t n, float* out) const override {
    const QuadsView& v = view_;
    std::fill(out, out + v.k, 0.0f);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      const std::int64_t list = chunk * v.n + n;
      float* const at = out + chunk * v.chunk;
      for (std::int64_t i = v.octet_begin[list]; i < v.octet_begin[list + 1]; ++i)
        for (int slot = 0; slot < 8; ++slot) {
          const int weight = v.octets[i].weight[slot / 2 * 4 + slot % 2] * v.octets[i].sign[slot / 4];
          if (weight != 0) at[v.octets[i].column[slot] / 8] = static_cast<float>(weight) * v.scale[n];
        }
      for (std::int64_t i = v.quad_begin[list]; i < v.quad_begin[list + 1]; ++i)
        for (int slot = 0; slot < 4; ++slot) {
          const int weight = v.quads[i].weight[slot] * v.quads[i].sign[slot / 2];
          if (weight != 0) at[v.quads[i].column[slot] / 8] = static_cast<float>(weight) * v.scale[n];
        }
    }
  }

 private:
  // The nonzeros of one sign of a row, and what was made of them.
  struct OneSign {
    std::vector<Nonzero> list, sorted;
    std::size_t count = 0, halves = 0;

    // Sorts by magnitude and finds how many halves of octets the smallest weights make: half i of h is the folded
    // {i, 2h - 1 - i, 2h + i, 4h - 1 - i}, whose sums are close to each other.
    void fold() {
      std::size_t begin[129] = {};
      for (std::size_t i = 0; i < count; ++i) ++begin[list[i].weight + 1];
      for (int w = 1; w < 129; ++w) begin[w] += begin[w - 1];
      sorted.resize(count);
      for (std::size_t i = 0; i < count; ++i) sorted[begin[list[i].weight]++] = list[i];
      for (halves = count / 4; halves != 0 && !fits(); --halves) {
      }
    }
    bool fits() const {
      for (std::size_t i = 0; i < halves; ++i) {
        std::int32_t sum = 0;
        for (int slot = 0; slot < 4; ++slot) sum += half(i, slot).weight;
        if (sum > kHalfOctet) return false;
      }
      return true;
    }
    const Nonzero& half(std::size_t i, int slot) const {
      const std::size_t base = (slot & 2) != 0 ? 2 * halves : 0;
      return sorted[(slot & 1) != 0 ? base + 2 * halves - 1 - i : base + i];
    }
  };

  void make_quads(const WeightSource& source) {
    std::vector<Octet> octets;
    std::vector<Quad> quads;
    const std::size_t lists = static_cast<std::size_t>(view_.chunks * view_.n);
    octet_begin_ = AlignedBuffer<std::int64_t>(lists + 1);
    quad_begin_ = AlignedBuffer<std::int64_t>(lists + 1);
    OneSign of_sign[2];
    for (std::size_t list = 0; list < lists; ++list) {
      octet_begin_[list] = static_cast<std::int64_t>(octets.size());
      quad_begin_[list] = static_cast<std::int64_t>(quads.size());
      const std::int64_t begin = static_cast<std::int64_t>(list) / view_.n * kQuadsChunk, end = std::min(view_.k, begin + kQuadsChunk);
      source.row_q8(static_cast<std::int64_t>(list) % view_.n, codes_.data());
      for (OneSign& sign : of_sign) {
        sign.list.resize(static_cast<std::size_t>(end - begin) + 1);
        sign.count = 0;
      }
      for (std::int64_t k = begin; k < end; ++k) {  // no branch, a mask of nonzeros cannot be predicted
        const int weight = codes_[static_cast<std::size_t>(k)];
        const Nonzero nz = {static_cast<std::int32_t>(8 * (k - begin)), std::abs(weight)};
        of_sign[0].list[of_sign[0].count] = nz;
        of_sign[1].list[of_sign[1].count] = nz;
        of_sign[0].count += weight > 0;
        of_sign[1].count += weight < 0;
      }
      add_row(of_sign, octets, quads);
    }
    octet_begin_[lists] = static_cast<std::int64_t>(octets.size());
    quad_begin_[lists] = static_cast<std::int64_t>(quads.size());
    octets_ = copy_of(octets);
    quads_ = copy_of(quads);
  }

  static void add_row(OneSign* of_sign, std::vector<Octet>& octets, std::vector<Quad>& quads) {
    of_sign[0].fold();
    of_sign[1].fold();
    if ((of_sign[0].halves + of_sign[1].halves) % 2 != 0)  // an octet needs two; fewer, of smaller weights, still fit
      --of_sign[of_sign[0].halves < of_sign[1].halves].halves;
    const std::size_t halves = of_sign[0].halves + of_sign[1].halves;
    for (std::size_t i = 0; i < halves; ++i) {
      if (i % 2 == 0) octets.emplace_back();
      const int sign = i < of_sign[0].halves ? 0 : 1;
      const std::size_t h = sign == 0 ? i : i - of_sign[0].halves, place = i % 2;
      Octet& octet = octets.back();
      octet.sign[place] = sign == 0 ? 1 : -1;
      for (int slot = 0; slot < 4; ++slot) {
        const Nonzero& nz = of_sign[sign].half(h, slot);
        octet.column[4 * place + static_cast<std::size_t>(slot)] = static_cast<std::uint16_t>(nz.column);
        std::uint8_t* weight = octet.weight + 8 * place + 4 * (slot / 2) + slot % 2;
        weight[0] = weight[2] = static_cast<std::uint8_t>(nz.weight);
      }
    }
    std::size_t pair = 0;
    for (int sign = 0; sign < 2; ++sign)
      for (std::size_t i = 4 * of_sign[sign].halves; i < of_sign[sign].count; i += 2, ++pair) {
        const Nonzero& a = of_sign[sign].sorted[i];
        const Nonzero b = i + 1 < of_sign[sign].count ? of_sign[sign].sorted[i + 1] : Nonzero{a.column, 0};
        if (pair % 2 == 0) quads.emplace_back();
        put_pair(quads.back(), pair % 2, a, b, sign == 0 ? 1 : -1);
      }
    if (pair % 2 != 0) put_pair(quads.back(), 1, {quads.back().column[0], 0}, {quads.back().column[0], 0}, 1);
  }

  static void put_pair(Quad& quad, std::size_t half, const Nonzero& a, const Nonzero& b, int sign) {
    quad.column[2 * half] = static_cast<std::uint16_t>(a.column);
    quad.column[2 * half + 1] = static_cast<std::uint16_t>(b.column);
    quad.weight[2 * half] = static_cast<std::uint8_t>(a.weight);
    quad.weight[2 * half + 1] = static_cast<std::uint8_t>(b.weight);
    quad.sign[half] = static_cast<std::int16_t>(sign);
  }

  Scratch scratch_;
  QuadsView view_{};
  std::vector<std::int8_t> codes_;
  AlignedBuffer<std::int64_t> octet_begin_, quad_begin_;
  AlignedBuffer<Octet> octets_;
  AlignedBuffer<Quad> quads_;
  AlignedBuffer<float> scale_;
};

std::unique_ptr<Weight> pack(const WeightSource& source, QuadsWeight::Scratch scratch) {
  if (source.n() < 1) throw ShapeError("quads_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("quads_q8: expected int8 weights, got float");
  return std::make_unique<QuadsWeight>(source, scratch);
}

}  // namespace

std::unique_ptr<Weight> pack_quads_q8_avx2(const WeightSource& source) { return pack(source, quads_scratch_avx2); }

std::unique_ptr<Weight> pack_quads_q8_scalar(const WeightSource& source) {
  return pack(source, [](std::int64_t) { return std::size_t{0}; });
}

}  // namespace aerogel
