// What every way to attend needs (body.h): rows of keys and values, which of them a query sees, and what is done to scores before the
// softmax. Over the vocabulary of an ops/math_<isa>.h, which is included before.
#pragma once

#include "ops/attention/parts.h"

namespace aerogel {
namespace {

// Rows of keys or of values: `at` says where one begins, `pack_keys` and `pack_values` make panels of them, `times_scales` takes what
// a row's numbers are multiplied by into one row of products. Here floats at equal distances; ops/cached_attention has others.
struct FlatRows {
  static constexpr bool in_place = true;  // can be read as `rows` and `ld` say
  const float* rows;
  std::int64_t ld;
  const float* at(std::int64_t j) const { return rows + j * ld; }
  FlatRows from(std::int64_t j) const { return {at(j), ld}; }
  void times_scales(float*, std::int64_t) const {}
};
inline void pack_keys(const FlatRows& k, std::int64_t keys, std::int64_t d, float* out) { pack_keys(k.rows, k.ld, keys, d, out); }
inline void pack_values(const FlatRows& v, std::int64_t keys, std::int64_t d, float* out) { pack_values(v.rows, v.ld, keys, d, out); }

// Query i sees keys [first_key(i), end_key(i)). Both are those of query i - 1 or one more. Compiled twice, so that attention
// without a window pays nothing for those with one.
template <bool windowed>
inline std::int64_t first_key(const AttentionTask& task, std::int64_t i) {
  return windowed ? at_least(0, task.position + i - task.window) : 0;
}
template <bool windowed>
inline std::int64_t end_key(const AttentionTask& task, std::int64_t i) {
  if (task.causal) return at_most(task.keys, task.position + i + 1);
  return windowed ? at_most(task.keys, task.position + i + task.window + 1) : task.keys;
}

inline float factor_of(const AttentionTask& task) {
  return task.softcap > 0.0f ? task.scale / task.softcap : task.scale * kLog2E;
}

// ---- what scores are besides products ----------------------------------------------------------------------------

inline bool adjusts(const AttentionTask& task) { return task.softcap > 0.0f || task.bias != nullptr || task.slopes != nullptr; }

// out[t - low] = what is added to scores at distances t in [low, end), as exponents of two. Plain loops, which compilers turn into
// the file's own vectors.
void make_distances(const AttentionTask& task, std::int64_t head, std::int64_t low, std::int64_t end, float* out) {
  const std::int64_t reach = task.reach;
  std::int64_t t = low;
  if (task.bias == nullptr) {
    for (; t < end; ++t) out[t - low] = 0.0f;
  } else {
    const float* const bias = task.bias + head * (2 * reach + 1) + reach;
    const float nearest = bias[-reach] * kLog2E, farthest = bias[reach] * kLog2E;
    for (const std::int64_t stop = at_most(end, -reach); t < stop; ++t) out[t - low] = nearest;
    for (const std::int64_t stop = at_most(end, reach); t < stop; ++t) out[t - low] = bias[t] * kLog2E;
    for (; t < end; ++t) out[t - low] = farthest;
  }
  if (task.slopes == nullptr) return;
  const float slope = task.slopes[head] * kLog2E;
  const std::int32_t count = static_cast<std::int32_t>(end - low), first = static_cast<std::int32_t>(low);
  for (std::int32_t i = 0; i < count; ++i) {
    const float away = static_cast<float>(first + i);
    out[i] -= slope * (away < 0.0f ? -away : away);
  }
}

// s[n] of products becomes what the softmax takes; so do the elements up to the next multiple of kLanes, whatever they are.
template <bool capped>
inline void adjust(const AttentionTask& task, float* s, std::int64_t n, const float* distances) {
  const Vector cap = splat(task.softcap * kLog2E);
  for (std::int64_t j = 0; j < n; j += kLanes) {
    const Vector v = load(s + j), more = load(distances + j);
    store(s + j, capped ? fma(tanh(v), cap, more) : add(v, more));
  }
}

// Row r of the scores, elements [first(r), end(r)): of the query at position `at` + r, after all of `head`. distances: scratch,
// rows + the distance from the first of all these elements to the last, and one vector.
template <class First, class End>
void adjust_rows(const AttentionTask& task, std::int64_t head, std::int64_t at, float* scores, std::int64_t lds, std::int64_t rows,
                 const First& first, const End& end, float* distances) {
  const std::int64_t low = first(0) - (at + rows - 1);
  make_distances(task, head, low, end(rows - 1) - at + kLanes, distances);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const row = scores + r * lds + first(r);
    const float* const by = distances + (first(r) - (at + r) - low);
    task.softcap > 0.0f ? adjust<true>(task, row, end(r) - first(r), by) : adjust<false>(task, row, end(r) - first(r), by);
  }
}

}  // namespace
}  // namespace aerogel
