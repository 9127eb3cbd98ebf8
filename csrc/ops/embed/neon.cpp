#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

inline void put(float* y, float32x4_t v, std::int64_t n, bool accumulate) {
  store_first(y, accumulate ? vaddq_f32(load_first(y, n), v) : v, n);
}

inline float32x4_t load_codes(const std::int8_t* q, std::int64_t n) {
  std::int32_t lanes[4] = {0, 0, 0, 0};
  for (std::int64_t i = 0; i < 4 && i < n; ++i) lanes[i] = q[i];
  return vcvtq_f32_s32(vld1q_s32(lanes));
}

}  // namespace

void embed_f32_neon(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* entry = task.f32 + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; k += 4)
      put(y + k, load_first(entry + k, task.width - k), task.width - k, task.accumulate);
  }
}

void embed_q8_neon(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int8_t* entry = task.q8 + task.ids[t] * task.width;
    const float32x4_t scale = vdupq_n_f32(task.scale[task.ids[t]]);
    float* y = task.y + t * task.width;
    std::int64_t k = 0;
    for (; k + 8 <= task.width; k += 8) {
      const int16x8_t codes = vmovl_s8(vld1_s8(entry + k));
      put(y + k, vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes))), scale), 4, task.accumulate);
      put(y + k + 4, vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(codes))), scale), 4, task.accumulate);
    }
    for (; k < task.width; k += 4)
      put(y + k, vmulq_f32(load_codes(entry + k, task.width - k), scale), task.width - k, task.accumulate);
  }
}

}  // namespace aerogel
