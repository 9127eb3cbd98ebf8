// dense_q4 on AVX2, levels that rise one by one: vpmaddubsw of the index itself, an unsigned byte, and x.
//
// A pair of products is at most 2 * 15 * 127, far from where vpmaddubsw saturates, so this is what dense_q8 cannot do: 32
// products for one vpmaddubsw and one vpaddw. The 16-bit sums of 32 columns, 16 products a lane, are at most 16 * 15 * 127. One vpmaddwd
// then adds the two lanes of a row and multiplies by the multiplier of its group, another one does so with the sums of x and the offset,
//
//     sum x * (index * multiplier + offset) = multiplier * sum x * index + offset * sum x
//
// Where all groups have the same zero, -multiplier * zero for an offset, the sums start with -zero * sum x instead (modulo 2^16:
// the result is at most 16 * 16 * 127 and fits whatever overflowed on the way).
//
// Bound: for 6 tokens x 16 rows x 32 columns 96 vpmaddubsw and 96 vpaddw, 8 % more for the ends of blocks, 6 % for the unpacking
// by the first tile; with two multipliers and four vector pipes that is up to 60 MAC a cycle, where dense_q8 has 32. One token:
// 11 instructions for 64 weights (dense_q8: 14), of half the bytes.
//
// Measured on a 2-core Zen 3 that others used too, one thread, times as fast as dense_q8 of the same codes (medians of interleaved
// calls): 768 x 768 from cache, groups of 64, 1.44 / 1.52 / 1.62 / 1.66 at 1 / 4 / 16 / 128 tokens (62 Gweights/s, 114, 125 and 122
// GMAC/s), with zero points, multiplied in at the start, 1.4 / 1.5 / 1.5 / 1.5; from DRAM 2.0 at one token (4096 x 4096 and 576 x 1536), 1.5 at 4, 1.7 at 16.
#include "linear/dense_q4/layout.h"
#include "linear/dense_q4/tile_avx2.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_q4_table_avx2(const LinearTask& task);  // avx2_table.cpp

namespace {

// Two in a byte; with Keep also stored a byte each.
template <bool Keep>
struct Nibbles {
  const std::uint8_t* index;
  std::uint8_t* bytes;

  void enter() {}
  void leave() {}
  Quad next() {
    _mm_prefetch(reinterpret_cast<const char*>(index + kPrefetchBytes), _MM_HINT_T0);
    const __m256i both = load(index), mask = _mm256_set1_epi8(15);
    const Quad read = {_mm256_and_si256(both, mask), _mm256_and_si256(_mm256_srli_epi16(both, 4), mask)};
    index += 32;
    if (Keep) {
      store(bytes, read.low);
      store(bytes + 32, read.high);
      bytes += 64;
    }
    return read;
  }
};

struct Panels {
  const DenseQ4View& w;
  const std::uint8_t* index;

  void begin(std::int64_t panel) { index = w.index + panel * kRows * w.k_padded / 2; }
  template <class Tile>
  void first(const Tile& tile, std::int64_t, std::uint8_t* bytes, bool more) {
    if (more) {
      Nibbles<true> chunk{index, bytes};
      tile(chunk);
      index = chunk.index;
    } else {
      Nibbles<false> chunk{index, nullptr};
      tile(chunk);
      index = chunk.index;
    }
  }
};

}  // namespace

void run_dense_q4_avx2(const LinearTask& task) {
  const DenseQ4View& w = *static_cast<const DenseQ4View*>(task.weight);
  if (!w.linear) return run_dense_q4_table_avx2(task);
  const Shape shape{w.n, w.k_padded, w.group, w.groups, w.multiplier, w.offset, w.same_zero, w.scale};
  Panels panels{w, nullptr};
  w.offset != nullptr ? run_panels<true>(task, shape, panels) : run_panels<false>(task, shape, panels);
}

}  // namespace aerogel
