#include <immintrin.h>

#include "codec/step.h"

namespace aerogel {
namespace {

// order[mask][lane]: which of the next words lane takes, if the lanes in `mask` take one each. Zero for the others.
struct Order {
  std::uint8_t lane[256][8];
};

constexpr Order make_order() {
  Order order{};
  for (int mask = 0; mask < 256; ++mask) {
    std::uint8_t next = 0;
    for (int lane = 0; lane < 8; ++lane)
      if ((mask >> lane & 1) != 0) order.lane[mask][lane] = next++;
  }
  return order;
}

constexpr Order kOrder = make_order();

struct Position {
  const std::uint8_t* words;
  std::uint8_t* out;
  __m256i x;
};

inline __attribute__((always_inline)) void step(const std::uint32_t* table, Position& p) {
  const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table),
                                               _mm256_and_si256(p.x, _mm256_set1_epi32(kRansTotal - 1)), 4);
  const __m256i rest = _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(kRansTotal - 1));
  const __m256i x = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(entry, 20), _mm256_srli_epi32(p.x, kRansBits)), rest);
  // Unsigned x < 65536, by its upper half.
  const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
  const auto mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
  const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p.words)));
  const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kOrder.lane[mask])));
  const __m256i more = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_permutevar8x32_epi32(next, order));
  p.x = _mm256_blendv_epi8(x, more, low);
  p.words += 2 * __builtin_popcount(mask);
  // The lowest byte of each lane.
  const __m256i bytes = _mm256_shuffle_epi8(
      entry, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                              0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p.out),
                   _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
  p.out += kRansLanes;
}

template <int kCount>
inline __attribute__((always_inline)) void run(const std::uint32_t* table, RansChunk* const* chunks, std::int64_t steps) {
  Position p[kCount];
  for (int i = 0; i < kCount; ++i)
    p[i] = {chunks[i]->words, chunks[i]->out, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(chunks[i]->state))};
  for (; steps > 0; --steps)
    for (int i = 0; i < kCount; ++i) step(table, p[i]);
  for (int i = 0; i < kCount; ++i) {
    chunks[i]->words = p[i].words;
    chunks[i]->out = p[i].out;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunks[i]->state), p[i].x);
  }
}

}  // namespace

// 22 instructions for 8 symbols, one of them a gather, which is most of the time.
void rans_steps_avx2(const std::uint32_t* table, RansChunk* const* chunks, int count, std::int64_t steps) {
  switch (count) {
    case 1: return run<1>(table, chunks, steps);
    case 2: return run<2>(table, chunks, steps);
    case 3: return run<3>(table, chunks, steps);
    default: return run<4>(table, chunks, steps);
  }
}

}  // namespace aerogel
