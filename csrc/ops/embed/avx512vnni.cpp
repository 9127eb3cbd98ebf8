#include "ops/math_avx512vnni.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

inline void put(float* y, __m512 v, std::int64_t n, bool accumulate) {
  store_first(y, accumulate ? _mm512_add_ps(load_first(y, n), v) : v, n);
}

inline __m512 load_codes(const std::int8_t* q, std::int64_t n) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), q)));
}

}  // namespace

void embed_f32_avx512vnni(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* entry = task.f32 + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; k += 16)
      put(y + k, load_first(entry + k, task.width - k), task.width - k, task.accumulate);
  }
}

void embed_q8_avx512vnni(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int8_t* entry = task.q8 + task.ids[t] * task.width;
    const __m512 scale = _mm512_set1_ps(task.scale[task.ids[t]]);
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; k += 16)
      put(y + k, _mm512_mul_ps(load_codes(entry + k, task.width - k), scale), task.width - k, task.accumulate);
  }
}

}  // namespace aerogel
