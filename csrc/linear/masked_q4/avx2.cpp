// masked_q4 on AVX2, integers: a chunk of a panel is expanded into scratch, one index in a byte, where the tile of dense_q4 reads it; for
// one token it is multiplied in registers.
//
// Bound, one token: the number of instructions, 59 for 64 weights and some 5 to make bytes of their values, at 5.5 a cycle; so, as
// masked_q8 here, the format saves memory, and time only with many tokens, when a chunk is expanded for all of them and multiplied as
// fast as dense_q4.
//
// Measured on a busy 2-core Zen 3, one thread, 768 x 768 in cache, 50 to 90 % zeros, times as fast as dense_q8: .28 to .31 at one token
// (.23 to .25 through scratch), .47 to .51 at 4, 1.0 to 1.05 at 16, 1.2 to 1.3 at 128. dense_q4 is faster everywhere, with .52
// bytes a weight against .40 / .30 / .25 / .20 at 50 / 70 / 80 / 90 %, which is what this format is for.
#include "linear/dense_q4/tile_avx2.h"
#include "linear/linear.h"
#include "linear/masked_q4/expand_avx2.h"
#include "linear/masked_q4/layout.h"

namespace aerogel {

void run_masked_q4_table_avx2(const LinearTask& task);  // avx2_table.cpp

namespace {

// One token uses an index once: it is multiplied where it was spread, and written nowhere.
struct Spreading {
  Spread spread;
  const std::int8_t* zero;  // of each row, for this group; null: the same for all
  std::int64_t blocks;      // of a group
  std::int64_t left;        // of this group
  __m256i low, high;        // what no value is

  inline __attribute__((always_inline)) Quad next() {
    Quad made;
    spread.sixty_four(made.low, made.high);
    return {_mm256_xor_si256(made.low, low), _mm256_xor_si256(made.high, high)};
  }
  void enter() {
    if (zero != nullptr && left == blocks) four_a_row(zero, low, high);
  }
  void leave() {
    if (--left != 0) return;
    left = blocks;
    if (zero != nullptr) zero += kRows;
  }
};

struct Panels {
  Expander expander;
  Spreading one;

  void begin(std::int64_t panel) {
    expander.begin(panel);
    const MaskedQ4View& w = expander.w;
    one.zero = w.zero == nullptr ? nullptr : w.zero + panel * w.groups * kRows;
    one.blocks = one.left = w.group / kQ4Block;
    one.low = one.high = _mm256_set1_epi8(w.same_zero);
  }
  template <class Tile>
  void first(const Tile& tile, std::int64_t columns, std::uint8_t* bytes, bool more) {
    if (tile.tokens == 1 && !more) {
      one.spread = expander.spread(columns);
      tile.one(one);
      return;
    }
    expander.chunk(columns, bytes);
    Bytes chunk{bytes};
    tile(chunk);
  }
};

}  // namespace

void run_masked_q4_avx2(const LinearTask& task) {
  const MaskedQ4View& w = *static_cast<const MaskedQ4View*>(task.weight);
  if (!w.linear) return run_masked_q4_table_avx2(task);
  const Shape shape{w.n, w.k_padded, w.group, w.groups, w.multiplier, w.offset, w.same_zero, w.scale};
  auto* const room = static_cast<std::uint8_t*>(task.scratch) + masked_q4_room_avx2(true, w.k_padded, task.m) + kMaskedQ4RoomAvx2;
  Panels panels{Expander{w, room, nullptr, 0, 0, 0, _mm256_setzero_si256()}, {}};
  w.offset != nullptr ? run_panels<true>(task, shape, panels) : run_panels<false>(task, shape, panels);
}

}  // namespace aerogel
