// Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

template <class Lanes>
inline void put(float* y, Vector v, Lanes n, bool accumulate) {
  store_first(y, accumulate ? add(load_first(y, n), v) : v, n);
}

void embed_f32(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* entry = task.f32 + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    for (std::int64_t k = 0; k < task.width; k += kLanes)
      put(y + k, load_first(entry + k, task.width - k), task.width - k, task.accumulate);
  }
}

// Entries of 16 bits each, which `widen` makes floats of, exactly.
template <Vector (*widen)(const std::uint16_t*)>
void embed_half(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::uint16_t* entry = task.half + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    std::int64_t k = 0;
    for (; k + kLanes <= task.width; k += kLanes) put(y + k, widen(entry + k), All{}, task.accumulate);
    if (k < task.width) {  // nothing says that more can be read
      std::uint16_t codes[kLanes] = {};
      __builtin_memcpy(codes, entry + k, static_cast<std::size_t>(task.width - k) * sizeof codes[0]);
      put(y + k, widen(codes), task.width - k, task.accumulate);
    }
  }
}

void embed_q8(const EmbedTask& task) {
  constexpr std::int64_t kStep = 2 * kLanes;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int8_t* entry = task.q8 + task.ids[t] * task.width;
    const Vector scale = splat(task.scale[task.ids[t]]);
    float* y = task.y + t * task.width;
    const auto put_codes = [&](std::int64_t k, const std::int8_t* codes, auto n) {
      Vector v[2];
      load_codes(codes, v);
      for (int u = 0; u < 2; ++u) put(y + k + u * kLanes, mul(v[u], scale), n - u * kLanes, task.accumulate);
    };
    std::int64_t k = 0;
    for (; k + kStep <= task.width; k += kStep) put_codes(k, entry + k, All{});
    if (k < task.width) {  // nothing says that more can be read
      std::int8_t codes[kStep] = {};
      __builtin_memcpy(codes, entry + k, static_cast<std::size_t>(task.width - k));
      put_codes(k, codes, task.width - k);
    }
  }
}

}  // namespace
}  // namespace aerogel
