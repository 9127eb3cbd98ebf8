#include "base/bf16.h"
#include "base/f16.h"
#include "ops/ops.h"

namespace aerogel {

void embed_f32_scalar(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* entry = task.f32 + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; ++k) y[k] = task.accumulate ? y[k] + entry[k] : entry[k];
  }
}

namespace {

template <float (&widen)(std::uint16_t)>
void embed_half(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::uint16_t* entry = task.half + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; ++k) y[k] = task.accumulate ? y[k] + widen(entry[k]) : widen(entry[k]);
  }
}

}  // namespace

void embed_bf16_scalar(const EmbedTask& task) { embed_half<bf16_to_float>(task); }
void embed_f16_scalar(const EmbedTask& task) { embed_half<f16_to_float>(task); }

void embed_q8_scalar(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int8_t* entry = task.q8 + task.ids[t] * task.width;
    const float scale = task.scale[task.ids[t]];
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; ++k) {
      const float value = static_cast<float>(entry[k]) * scale;
      y[k] = task.accumulate ? y[k] + value : value;
    }
  }
}

}  // namespace aerogel
