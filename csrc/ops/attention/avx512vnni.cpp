// Tiles of 12 rows by 2 vectors: 24 sums; 2 loads and 12 broadcasts for 24 multiply-adds, so bound by the two FMA ports.
#include "ops/math_avx512vnni.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr int kTile = 12;
constexpr int kSquare = 8;

// out[c * ld + r] = rows[r][column + c], r and c < 8
inline void transpose_square(const float* const* rows, std::int64_t column, float* out, std::int64_t ld) {
  __m256 row[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) row[r] = _mm256_loadu_ps(rows[r] + column);
  const __m256 a0 = _mm256_unpacklo_ps(row[0], row[1]), a1 = _mm256_unpackhi_ps(row[0], row[1]);
  const __m256 a2 = _mm256_unpacklo_ps(row[2], row[3]), a3 = _mm256_unpackhi_ps(row[2], row[3]);
  const __m256 a4 = _mm256_unpacklo_ps(row[4], row[5]), a5 = _mm256_unpackhi_ps(row[4], row[5]);
  const __m256 a6 = _mm256_unpacklo_ps(row[6], row[7]), a7 = _mm256_unpackhi_ps(row[6], row[7]);
  const __m256 b0 = _mm256_shuffle_ps(a0, a2, 0x44), b1 = _mm256_shuffle_ps(a0, a2, 0xee);
  const __m256 b2 = _mm256_shuffle_ps(a1, a3, 0x44), b3 = _mm256_shuffle_ps(a1, a3, 0xee);
  const __m256 b4 = _mm256_shuffle_ps(a4, a6, 0x44), b5 = _mm256_shuffle_ps(a4, a6, 0xee);
  const __m256 b6 = _mm256_shuffle_ps(a5, a7, 0x44), b7 = _mm256_shuffle_ps(a5, a7, 0xee);
  _mm256_storeu_ps(out, _mm256_permute2f128_ps(b0, b4, 0x20));
  _mm256_storeu_ps(out + ld, _mm256_permute2f128_ps(b1, b5, 0x20));
  _mm256_storeu_ps(out + 2 * ld, _mm256_permute2f128_ps(b2, b6, 0x20));
  _mm256_storeu_ps(out + 3 * ld, _mm256_permute2f128_ps(b3, b7, 0x20));
  _mm256_storeu_ps(out + 4 * ld, _mm256_permute2f128_ps(b0, b4, 0x31));
  _mm256_storeu_ps(out + 5 * ld, _mm256_permute2f128_ps(b1, b5, 0x31));
  _mm256_storeu_ps(out + 6 * ld, _mm256_permute2f128_ps(b2, b6, 0x31));
  _mm256_storeu_ps(out + 7 * ld, _mm256_permute2f128_ps(b3, b7, 0x31));
}

#include "ops/attention/body.h"

}  // namespace

void attention_avx512vnni(const AttentionTask& task) { attend(task); }

}  // namespace aerogel
