// Packs blocks_q8 for the kernels that take a row at a time (layout.h draws it).
#include <algorithm>
#include <limits>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/blocks_q8/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

// What differs between kernels.
struct Geometry {
  std::int64_t chunk;   // at most this many columns in a chunk: with the kernel's tokens, the part of a tile that L1 holds
  std::int64_t tokens;  // of a tile in scratch
};
constexpr Geometry kAvx2 = {768, kBlocksAvx2Tokens};
constexpr Geometry kScalar = {512, 0};

class BlocksWeight final : public Weight {
 public:
  BlocksWeight(const WeightSource& source, const Geometry& geometry)
      : Weight(source.n(), source.k(), source.nonzeros()), geometry_(geometry) {
    BlocksView& v = view_;
    v.n = source.n();
    v.k = source.k();
    v.chunks = (v.k + geometry.chunk - 1) / geometry.chunk;
    v.chunk = round_up<std::int64_t>((v.k + v.chunks - 1) / v.chunks, 64);
    v.chunks = (v.k + v.chunk - 1) / v.chunk;
    const auto lists = static_cast<std::size_t>(v.chunks * v.n), padded = static_cast<std::size_t>(units() * kBlocksRows);
    begin_ = AlignedBuffer<std::uint32_t>(lists + 1);
    scale_ = AlignedBuffer<float>::zeros(padded);
    // Chunks outside would decode every row as often as there are chunks: rows outside, then the lists are put in order.
    std::vector<std::vector<Block>> of_chunk(static_cast<std::size_t>(v.chunks));
    std::vector<std::int8_t> codes(static_cast<std::size_t>(round_up<std::int64_t>(v.k, 4)));
    for (std::int64_t n = 0; n < v.n; ++n) {
      source.row_q8(n, codes.data());
      scale_[static_cast<std::size_t>(n)] = source.scale(n);
      for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
        std::vector<Block>& blocks = of_chunk[static_cast<std::size_t>(chunk)];
        begin_[static_cast<std::size_t>(chunk * v.n + n)] = static_cast<std::uint32_t>(blocks.size());
        const std::int64_t first = chunk * v.chunk, end = std::min(v.k, first + v.chunk);
        for (std::int64_t k = first; k < end; k += 4) {
          const std::int8_t* w = &codes[static_cast<std::size_t>(k)];
          if ((w[0] | w[1] | w[2] | w[3]) != 0) blocks.push_back({static_cast<std::uint16_t>(2 * (k - first)), {w[0], w[1], w[2], w[3]}});
        }
      }
    }
    std::size_t count = 0;
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
      for (auto list = static_cast<std::size_t>(chunk * v.n); list < static_cast<std::size_t>((chunk + 1) * v.n); ++list)
        begin_[list] += static_cast<std::uint32_t>(count);
      count += of_chunk[static_cast<std::size_t>(chunk)].size();
    }
    if (count > std::numeric_limits<std::uint32_t>::max()) throw ShapeError("blocks_q8: more than 2^32 blocks");
    begin_[lists] = static_cast<std::uint32_t>(count);
    blocks_ = AlignedBuffer<Block>::zeros(count + 1);  // never null, also when there is nothing
    Block* to = blocks_.data();
    for (const std::vector<Block>& blocks : of_chunk) to = std::copy(blocks.begin(), blocks.end(), to);

    v.begin = begin_.data();
    v.blocks = blocks_.data();
    v.scale = scale_.data();
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override { return {bytes_of(begin_), bytes_of(blocks_), bytes_of(scale_)}; }
  std::int64_t units() const override { return (view_.n + kBlocksRows - 1) / kBlocksRows; }

  std::int64_t cost(std::int64_t unit) const override {
    // The rows' own cost (starting a list, writing the outputs) is about that of four blocks a row.
    const std::int64_t row = std::min(unit * kBlocksRows, view_.n);
    std::int64_t sum = 4 * row;
    for (std::int64_t chunk = 0; chunk < view_.chunks; ++chunk)
      sum += std::int64_t{begin_[static_cast<std::size_t>(chunk * view_.n + row)]} -
             std::int64_t{begin_[static_cast<std::size_t>(chunk * view_.n)]};
    return sum;
  }

  std::size_t scratch_bytes(std::int64_t) const override {
    return geometry_.tokens == 0 ? 0 : blocks_scratch(view_.k, geometry_.tokens, kBlocksSetRows);
  }

  void row_f32(std::int64_t n, float* out) const override {
    const BlocksView& v = view_;
    std::fill(out, out + v.k, 0.0f);
    for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk)
      for (std::uint32_t i = v.begin[chunk * v.n + n]; i < v.begin[chunk * v.n + n + 1]; ++i)
        for (int j = 0; j < 4; ++j)
          if (const int weight = v.blocks[i].weight[j]; weight != 0)
            out[chunk * v.chunk + v.blocks[i].column / 2 + j] = static_cast<float>(weight) * v.scale[n];
  }

 private:
  Geometry geometry_;
  BlocksView view_{};
  AlignedBuffer<std::uint32_t> begin_;
  AlignedBuffer<Block> blocks_;
  AlignedBuffer<float> scale_;
};

std::unique_ptr<Weight> pack(const WeightSource& source, const Geometry& geometry) {
  if (source.n() < 1) throw ShapeError("blocks_q8: expected at least 1 row, got 0");
  if (!source.quantized()) throw DataError("blocks_q8: expected int8 weights, got float");
  return std::make_unique<BlocksWeight>(source, geometry);
}

}  // namespace

std::unique_ptr<Weight> pack_blocks_q8_avx2(const WeightSource& source) { return pack(source, kAvx2); }
std::unique_ptr<Weight> pack_blocks_q8_scalar(const WeightSource& source) { return pack(source, kScalar); }

}  // namespace aerogel
