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

// A row of `width` elements in steps of Step lanes, Step/kLanes registers at a time: values(k, out) makes those from element k on.
// The last step ends where the row ends, so that nothing is read behind it and no part of a step has to be copied first: what it
// shares with the step before is computed twice, from the y that was there before, and written last.
template <int Step, class Values>
inline void put_row(float* y, std::int64_t width, bool accumulate, const Values& values) {
  constexpr int kRegisters = Step / static_cast<int>(kLanes);
  const auto sums = [&](std::int64_t k, Vector(&v)[kRegisters]) {
    values(k, v);
    for (int u = 0; u < kRegisters; ++u)
      if (accumulate) v[u] = add(load(y + k + u * kLanes), v[u]);
  };
  const std::int64_t tail = width - Step;
  Vector last[kRegisters];
  for (Vector& v : last) v = splat(0.0f);
  if (width % Step != 0) sums(tail, last);
  for (std::int64_t k = 0; k <= tail; k += Step) {
    Vector v[kRegisters];
    sums(k, v);
    for (int u = 0; u < kRegisters; ++u) store(y + k + u * kLanes, v[u]);
  }
  if (width % Step != 0)
    for (int u = 0; u < kRegisters; ++u) store(y + tail + u * kLanes, last[u]);
}

// Entries of 16 bits each, which `widen` makes floats of, exactly.
template <Vector (*widen)(const std::uint16_t*)>
void embed_half(const EmbedTask& task) {
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::uint16_t* entry = task.half + task.ids[t] * task.width;
    float* y = task.y + t * task.width;
    if (task.width >= kLanes) {
      put_row<kLanes>(y, task.width, task.accumulate, [&](std::int64_t k, Vector(&v)[1]) { v[0] = widen(entry + k); });
    } else {
      std::uint16_t codes[kLanes] = {};
      __builtin_memcpy(codes, entry, static_cast<std::size_t>(task.width) * sizeof codes[0]);
      put(y, widen(codes), task.width, task.accumulate);
    }
  }
}

void embed_q8(const EmbedTask& task) {
  constexpr std::int64_t kStep = 2 * kLanes;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const std::int8_t* entry = task.q8 + task.ids[t] * task.width;
    const Vector scale = splat(task.scale[task.ids[t]]);
    float* y = task.y + t * task.width;
    const auto values = [&](const std::int8_t* codes, Vector(&v)[2]) {
      load_codes(codes, v);
      for (int u = 0; u < 2; ++u) v[u] = mul(v[u], scale);
    };
    if (task.width >= kStep) {
      put_row<kStep>(y, task.width, task.accumulate, [&](std::int64_t k, Vector(&v)[2]) { values(entry + k, v); });
    } else {
      std::int8_t codes[kStep] = {};
      __builtin_memcpy(codes, entry, static_cast<std::size_t>(task.width));
      Vector v[2];
      values(codes, v);
      for (int u = 0; u < 2; ++u) put(y + u * kLanes, v[u], task.width - u * kLanes, task.accumulate);
    }
  }
}

}  // namespace
}  // namespace aerogel
