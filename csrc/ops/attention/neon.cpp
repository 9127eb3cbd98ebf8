// Tiles of 6 rows by 2 vectors: 12 sums; a query element is loaded into all lanes.
#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

constexpr int kTile = 6;
constexpr int kSquare = 4;

// out[c * ld + r] = rows[r][column + c], r and c < 4
inline void transpose_square(const float* const* rows, std::int64_t column, float* out, std::int64_t ld) {
  const float32x4_t a = vld1q_f32(rows[0] + column), b = vld1q_f32(rows[1] + column);
  const float32x4_t c = vld1q_f32(rows[2] + column), d = vld1q_f32(rows[3] + column);
  const float64x2_t ab0 = vreinterpretq_f64_f32(vtrn1q_f32(a, b)), ab1 = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
  const float64x2_t cd0 = vreinterpretq_f64_f32(vtrn1q_f32(c, d)), cd1 = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
  vst1q_f32(out, vreinterpretq_f32_f64(vtrn1q_f64(ab0, cd0)));
  vst1q_f32(out + ld, vreinterpretq_f32_f64(vtrn1q_f64(ab1, cd1)));
  vst1q_f32(out + 2 * ld, vreinterpretq_f32_f64(vtrn2q_f64(ab0, cd0)));
  vst1q_f32(out + 3 * ld, vreinterpretq_f32_f64(vtrn2q_f64(ab1, cd1)));
}

#include "ops/attention/body.h"

}  // namespace

void attention_neon(const AttentionTask& task) { attend(task); }

}  // namespace aerogel
