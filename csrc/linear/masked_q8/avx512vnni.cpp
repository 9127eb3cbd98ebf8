// masked_q8 on AVX-512 VBMI2 + VNNI: a word of mask is a register of the dense kernel, made by one vpexpandb.
//
// Bound, one token: vpexpandb (1.25 cycles on Zen 5, two uops on port 5 of Intel servers) and the front end, 11.8 instructions
// for 64 weights: load, mask, popcount and pointer, expand, dot, half a broadcast, 1.5 prefetches, register copies. Modelled
// (llvm-mca, icelake-server): 3.0 cycles for 64 weights with 1 token, 4.1 with 4, 5.9 with 8, 8.4 with 12, where 12 is bound by
// vpdpbusd. A prototype of the same design streamed at the speed of DRAM up to 80 % sparsity and was bound by vpexpandb at 125
// Gweights/s beyond (Zen 5, 4.2 GHz). Tested in emulation, not yet timed on hardware.
#include "linear/dense_q8/tile_avx512vnni.h"
#include "linear/linear.h"
#include "linear/masked_q8/layout.h"

namespace aerogel {
namespace {

// Values to where the mask has bits, 128 to where it has none. From a register: from memory vpexpandb is slow. Merged into a
// copy of a constant: zero-masked it waits for what its destination was before. Not the intrinsic, whose instruction set the
// rest of this file, shared with the dense kernel, must not assume.
inline __m512i expand(std::uint64_t mask, __m512i values) {
  __m512i w = _mm512_set1_epi8(-128);
  __asm__("vpexpandb %[values], %[w] %{%[mask]%}" : [w] "+v"(w) : [values] "v"(values), [mask] "Yk"(mask));
  return w;
}

// The weights of a panel, expanded as they are read; with Keep also stored.
template <bool Keep>
struct Expanded {
  const std::uint64_t* mask;
  const std::int8_t* values;
  std::int8_t* room;

  Quad next() {
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
  const MaskedQ8View& w;
  const std::uint64_t* mask;
  const std::int8_t* values;

  void begin(std::int64_t panel) {
    mask = w.mask + panel * kRows * w.k_padded / 64;
    values = w.values + w.panel_begin[panel];
  }
  void stream(std::int64_t t, const std::int8_t* x, std::int64_t columns, std::int32_t* sums, bool accumulate) {
    Expanded<false> chunk{mask, values, nullptr};
    tile_of(t, chunk, x, columns, sums, accumulate);
    mask = chunk.mask;
    values = chunk.values;
  }
  const std::int8_t* keep(std::int64_t t, std::int8_t* room, const std::int8_t* x, std::int64_t columns, std::int32_t* sums,
                          bool accumulate) {
    Expanded<true> chunk{mask, values, room};
    tile_of(t, chunk, x, columns, sums, accumulate);
    mask = chunk.mask;
    values = chunk.values;
    return room;
  }
};

}  // namespace

void run_masked_q8_avx512vnni(const LinearTask& task) {
  const MaskedQ8View& w = *static_cast<const MaskedQ8View*>(task.weight);
  Panels panels{w, nullptr, nullptr};
  run_panels(task, w.n, w.k_padded, w.scale, kMaskedQ8TilingAvx512, panels);
}

}  // namespace aerogel
