// dense_q8 on AVX-512 VNNI: vpdpbusd, 64 products an instruction, summed into int32 without saturation.
//
// Bound: vpdpbusd itself (two a cycle on Zen 5 and Intel servers, one on Zen 4). Weights carry + 128 and are the unsigned
// side, so x is used as it is; what the offset adds to a sum, 128 * sum_k x, is taken off at the end (modulo 2^32: the
// intermediate may wrap, the result does not). The tile is 12 tokens x 32 rows: 24 accumulators, and 14 loads go with 24
// vpdpbusd; a broadcast that serves two of them is cheaper than two embedded broadcasts, which also could only be of the
// signed side. Up to five tokens run several steps of k in parallel to cover the latency of vpdpbusd (4-5 cycles); Zen 5,
// 768x768: 5.1 -> 4.3 us for three tokens, 5.5 -> 5.1 for four.
//
// x is copied into the tiling of layout.h rather than read in place: at K = 4096 the tokens of a tile would share one L1 set.
// The copy also yields the sums of x.
//
// Measured on an Emerald Rapids core with tiles that stored all sums for a later pass, and with all of a panel fetched by
// its first tile: 92-93 % of peak at 768 x 768 and 128 tokens, 85 % at 3072 x 768, 76-78 % at 16 tokens, where L3 (31 GB/s)
// could not bring a panel in the time of one tile. The bare tile alone: 99.2 %. So sums now go from registers to y, and two
// tiles fetch half of the next panel each, a line a step; the loop is 44 instructions for 24 vpdpbusd, without a copy or a
// spill. Zen 5, without the quantization of x, of its peak: 95 % at 128 tokens and 768 x 768, 3072 x 768 and 768 x 3072, 94
// % at 16 tokens. The end of a tile takes some 70 cycles of 2400 there, of which 24 are what the ports of vpdpbusd have to
// do for it.
#include "linear/dense_q8/layout.h"
#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

struct Panels {
  static constexpr bool kInPlace = true;
  const DenseQ8View& w;
  const std::int8_t* codes;

  void begin(std::int64_t panel) { codes = w.codes + panel * kRows * w.k_padded; }
  void stream(std::int64_t t, const std::int8_t* x, std::int64_t columns, const Ends& ends) {
    Codes<true> chunk{codes};
    tile_of(t, chunk, x, columns, ends);
    codes = chunk.codes;
  }
  const std::int8_t* keep(std::int64_t t, std::int8_t*, const std::int8_t* x, std::int64_t columns,
                          const Ends& ends) {
    const std::int8_t* const here = codes;
    CodesAhead chunk{codes, codes + columns * kRows};
    tile_of(t, chunk, x, columns, ends);
    codes = chunk.codes;
    return here;
  }
};

}  // namespace

void run_dense_q8_avx512vnni(const LinearTask& task) {
  const DenseQ8View& w = *static_cast<const DenseQ8View*>(task.weight);
  Panels panels{w, nullptr};
  run_panels(task, w.n, w.k_padded, w.scale, kDenseQ8TilingAvx512, panels);
}

}  // namespace aerogel
