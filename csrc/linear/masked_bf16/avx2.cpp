// Eight weights are one byte shuffle: a table says for each byte of mask where the next values go, the upper halves of
// their lanes, and zeros elsewhere. One token: bound by the instructions around it, 16 or 17 for 16 weights (mask, count, two loads,
// shuffle, FMA), unless memory is slower. Many: by the two FMA units, as dense_f32.
// Measured as dense_bf16, one token at 4096x4096 from memory: 7 to 9 Gweights/s at any sparsity, 2.3 to 2.6 times dense_f32 and
// 1.05 to 1.2 times dense_bf16, whose bytes are the bound; 16 and 128 tokens: 1.0 to 1.15 times dense_f32.
#include "linear/dense_f32/tile_avx2.h"
#include "linear/masked_bf16/layout.h"

namespace aerogel {
namespace {

// Row m: the shuffle of 8 values in either half of a register that puts value j into the lane of the j-th bit of m.
struct Spread {
  alignas(64) std::uint8_t bytes[256][32];

  constexpr Spread() : bytes{} {
    for (int mask = 0; mask < 256; ++mask) {
      int next = 0;
      for (int lane = 0; lane < 8; ++lane) {
        const bool stored = (mask >> lane) & 1;
        bytes[mask][4 * lane] = bytes[mask][4 * lane + 1] = 0x80;  // the shuffle writes 0
        bytes[mask][4 * lane + 2] = static_cast<std::uint8_t>(stored ? 2 * next : 0x80);
        bytes[mask][4 * lane + 3] = static_cast<std::uint8_t>(stored ? 2 * next + 1 : 0x80);
        next += stored;
      }
    }
  }
};
constexpr Spread kSpread;

inline __m256 expand(const std::uint16_t* values, unsigned mask) {
  const __m256i next = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
  const __m256i places = _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.bytes[mask]));
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(next, places));
}

struct MaskedRows {
  const std::uint8_t* mask;
  const std::uint16_t* values;

  // No prefetch: both streams are sequential, and an instruction a column more costs as much as it gains.
  template <bool>
  void next(__m256& w0, __m256& w1) {
    std::uint16_t bits;
    __builtin_memcpy(&bits, mask, sizeof bits);
    w0 = expand(values, bits & 0xff);
    w1 = expand(values + __builtin_popcount(bits & 0xff), bits >> 8);
    values += __builtin_popcount(bits);  // one step a column: the next column waits for it
    mask += kPanel / 8;
  }
};

struct Source : masked_bf16::View {
  static constexpr std::int64_t kStep = masked_bf16::kSection;

  MaskedRows rows(std::int64_t unit, std::int64_t column) const {
    return {masks + (unit * k + column) * (kPanel / 8), values + begin[unit * sections + column / masked_bf16::kSection]};
  }
  MaskedRows stream(std::int64_t unit) const { return rows(unit, 0); }
  FloatRows block(std::int64_t unit, std::int64_t column, std::int64_t count, float* spare) const {
    MaskedRows from = rows(unit, column);
    for (float* out = spare; count > 0; --count, out += kPanel) {
      __m256 w0, w1;
      from.next<false>(w0, w1);
      _mm256_store_ps(out, w0);
      _mm256_store_ps(out + 8, w1);
    }
    return {spare};
  }
  void fetch(std::int64_t, std::int64_t, std::int64_t) const {}  // read once for all tiles, in order
};

}  // namespace

void run_masked_bf16_avx2(const LinearTask& task) {
  run_panels(task, Source{*static_cast<const masked_bf16::View*>(task.weight)});
}

}  // namespace aerogel
