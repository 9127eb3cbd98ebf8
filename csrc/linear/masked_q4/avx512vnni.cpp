// masked_q4 on AVX-512 VBMI2 + VNNI, integers: a chunk of a panel is expanded into scratch by vpexpandb, one index in a
// byte, where the tile of dense_q4 reads it; one tile of tokens multiplies what it expands at once, where all zeros are the
// same index. Zen 5, groups of 64, times as fast as dense_q8 at 50 / 90 %: .34 .42 (one token, 768x768 in cache), .44 .52
// (4), .79 .81 (128); 1.5 2.4 from DRAM (one token, 4096x4096).
#include "linear/dense_q4/tile_avx512vnni.h"
#include "linear/linear.h"
#include "linear/masked_q4/expand_avx512.h"
#include "linear/masked_q4/layout.h"

namespace aerogel {

void run_masked_q4_table_avx512vnni(const LinearTask& task);  // avx512vnni_table.cpp

namespace {

struct Panels {
  Expander expander;

  void begin(std::int64_t panel) { expander.begin(panel); }
  template <class Tile>
  void first(const Tile& tile, std::int64_t columns, std::uint8_t* bytes, bool more) {
    if (!more && expander.w.zero == nullptr) {
      Expanded chunk = expander.read(columns);
      return tile(chunk);
    }
    expander.chunk(columns, bytes);
    Bytes chunk{bytes};
    tile(chunk);
  }
};

}  // namespace

void run_masked_q4_avx512vnni(const LinearTask& task) {
  const MaskedQ4View& w = *static_cast<const MaskedQ4View*>(task.weight);
  if (!w.linear) return run_masked_q4_table_avx512vnni(task);
  const Shape shape{w.n, w.k_padded, w.group, w.groups, w.multiplier, w.offset, w.same_zero, w.scale};
  auto* const room = static_cast<std::uint8_t*>(task.scratch) + masked_q4_room_avx512(true, w.k_padded, task.m);
  Panels panels{Expander{w, room, nullptr, 0, 0, 0, _mm512_setzero_si512()}};
  w.offset != nullptr ? run_blocks<true>(task, shape, panels) : run_blocks<false>(task, shape, panels);
}

}  // namespace aerogel
