// masked_q8 on AVX-512 VBMI2 + VNNI: a word of mask is a register of the dense kernel, made by one vpexpandb. Up to four
// tokens have loops of their own (few_tokens_avx512.h); here are more of them, whose loads are the broadcasts of x: masks
// come from general registers, which popcnt needs too (from memory 5 % slower at 8 and 12 tokens, Zen 5).
//
// Bound: vpexpandb (a cycle on Zen 5, two uops on port 5 of Intel servers), the kmovq before it, which takes the same port,
// and vpdpbusd. Modelled (llvm-mca, icelake-server): 4.1 cycles for 64 weights with 4 tokens, 5.9 with 8, 8.4 with 12, where
// 12 is bound by vpdpbusd.
#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/linear.h"
#include "linear/masked_q8/few_tokens_avx512.h"
#include "linear/masked_q8/layout.h"

namespace aerogel {
namespace {

// The weights of a panel, expanded as they are read; with Keep also stored.
template <bool Keep>
struct Expanded {
  const std::uint64_t* mask;
  const std::int8_t* values;
  std::int8_t* room;

  INLINE Quad next() {
    _mm_prefetch(reinterpret_cast<const char*>(mask) + kPrefetchBytes, _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(values + kPrefetchBytes), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(values + kPrefetchBytes + 64), _MM_HINT_T0);
    Quad made;
    made.low = expand(mask[0], _mm512_loadu_si512(values));
    values += __builtin_popcountll(mask[0]);
    made.high = expand(mask[1], _mm512_loadu_si512(values));
    values += __builtin_popcountll(mask[1]);
    mask += 2;
    if (Keep) {
      _mm512_store_si512(room, made.low);
      _mm512_store_si512(room + 64, made.high);
      room += 128;
    }
    return made;
  }
};

struct Panels {
  static constexpr bool kInPlace = false;
  const MaskedQ8View& w;
  const std::uint64_t* mask;
  const std::int8_t* values;

  void begin(std::int64_t panel) {
    mask = w.mask + panel * kRows * w.k_padded / 64;
    values = w.values + w.panel_begin[panel];
  }
  void stream(std::int64_t t, const std::int8_t* x, std::int64_t columns, const Ends& ends) {
    Expanded<false> chunk{mask, values, nullptr};
    tile_of(t, chunk, x, columns, ends);
    mask = chunk.mask;
    values = chunk.values;
  }
  const std::int8_t* keep(std::int64_t t, std::int8_t* room, const std::int8_t* x, std::int64_t columns,
                          const Ends& ends) {
    Expanded<true> chunk{mask, values, room};
    tile_of(t, chunk, x, columns, ends);
    mask = chunk.mask;
    values = chunk.values;
    return room;
  }
};

}  // namespace

void run_masked_q8_avx512vnni(const LinearTask& task) {
  const MaskedQ8View& w = *static_cast<const MaskedQ8View*>(task.weight);
  if (task.m == 1) return run_few_tokens<1>(task, w);
  if (task.m == 2) return run_few_tokens<2>(task, w);
  if (task.m == 3) return run_few_tokens<3>(task, w);
  if (task.m == 4) return run_few_tokens<4>(task, w);
  Panels panels{w, nullptr, nullptr};
  run_panels(task, w.n, w.k_padded, w.scale, kMaskedQ8TilingAvx512, panels);
}

}  // namespace aerogel
