// dense_q4 on AVX-512 VNNI, integers: vpdpbusd of the index itself, an unsigned byte, and x. The sums of a block (32, 64 or 128
// columns of a group) are multiplied at its end by the multiplier of the group, and offset * sum x is added; where all groups have
// the same zero, -multiplier * zero for an offset, they start with -zero * sum x instead. Sums stay exact in int32, modulo 2^32 on the way.
//
// Bound, one token: DRAM, of half the bytes of dense_q8. Many tokens: vpdpbusd as in dense_q8, and at the end of a block 2
// vpmulld and 2 vpaddd a token, where 64 columns cost it 32 vpdpbusd. Zen 5, 768x768 in cache, times as fast as dense_q8 at
// 1 / 4 / 16 / 128 tokens: 1.35 1.01 .94 .94 with groups of 128, 1.30 .97 .92 .91 with 64, 1.14 .87 .85 .85 with 32; with
// offsets .87 at 128 and 64.
#include "linear/dense_q4/layout.h"
#include "linear/dense_q4/tile_avx512vnni.h"
#include "linear/linear.h"

namespace aerogel {

void run_dense_q4_table_avx512vnni(const LinearTask& task);  // avx512vnni_table.cpp

namespace {

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

void run_dense_q4_avx512vnni(const LinearTask& task) {
  const DenseQ4View& w = *static_cast<const DenseQ4View*>(task.weight);
  if (!w.linear) return run_dense_q4_table_avx512vnni(task);
  const Shape shape{w.n, w.k_padded, w.group, w.groups, w.multiplier, w.offset, w.same_zero, w.scale};
  Panels panels{w, nullptr};
  w.offset != nullptr ? run_blocks<true>(task, shape, panels) : run_blocks<false>(task, shape, panels);
}

}  // namespace aerogel
