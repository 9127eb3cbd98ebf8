#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

inline void put(float* y, __m256 v, std::int64_t n, bool accumulate) {
  store_first(y, accumulate ? _mm256_add_ps(load_first(y, n), v) : v, n);
}

// The first n of 8 codes; a partial group goes byte by byte, as nothing says that more can be read.
inline __m256 load_codes(const std::int8_t* q, std::int64_t n) {
  std::int64_t bits = 0;
  if (n >= 8) {
    bits = _mm_cvtsi128_si64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q)));
  } else {
    for (std::int64_t i = 0; i < n; ++i) bits |= static_cast<std::int64_t>(static_cast<std::uint8_t>(q[i])) << (8 * i);
  }
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bits)));
}

}  // namespace

void embed_f32_avx2(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* entry = task.f32 + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; k += 8)
      put(y + k, load_first(entry + k, task.width - k), task.width - k, task.accumulate);
  }
}

void embed_q8_avx2(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int8_t* entry = task.q8 + task.ids[t] * task.width;
    const __m256 scale = _mm256_set1_ps(task.scale[task.ids[t]]);
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; k += 8)
      put(y + k, _mm256_mul_ps(load_codes(entry + k, task.width - k), scale), task.width - k, task.accumulate);
  }
}

}  // namespace aerogel
