// Attention of a few queries (body.h says which): rows are read where they are, once for up to kSharing query heads.
#pragma once

#include "ops/attention/queries.h"

namespace aerogel {
namespace {

constexpr int kSharing = 3;  // query heads at once: 12 sums fill the registers of the smaller instruction sets
constexpr std::int64_t kFar = 16;  // rows of a cache that are asked for ahead of time

// p[heads, keys] = q[heads, d] . k[keys, d]^T, the elements of d on the lanes. Keys in steps of `strands`. v: the values that are
// read next.
template <int heads, int strands, class Rows>
void few_scores(const float* q, std::int64_t d, const Rows& keys_at, const Rows& v, std::int64_t keys, float* p, std::int64_t ldp) {
  for (std::int64_t j = 0; j < keys; j += strands) {
    decltype(keys_at.at(0)) k[strands];
    for (int r = 0; r < strands; ++r) {
      k[r] = keys_at.at(at_most(j + r, keys - 1));
      // The values too: they are next, and this loop leaves the memory more time.
      if (j + r + kFar < keys) prefetch_row(keys_at.at(j + r + kFar), d);
      if (j + r < keys) prefetch_row(v.at(j + r), d);
    }
    Vector sum[heads][strands];
    clear(sum);
    std::int64_t c = 0;
    for (; c + kLanes <= d; c += kLanes) {
      Vector x[heads];
#pragma GCC unroll 16
      for (int h = 0; h < heads; ++h) x[h] = load(q + h * d + c);
#pragma GCC unroll 16
      for (int r = 0; r < strands; ++r) {
        const Vector row = widen(k[r] + c);
#pragma GCC unroll 16
        for (int h = 0; h < heads; ++h) sum[h][r] = fma(x[h], row, sum[h][r]);
      }
    }
    if (c < d) {
#pragma GCC unroll 16
      for (int r = 0; r < strands; ++r) {
        const Vector row = widen_first(k[r] + c, d - c);
#pragma GCC unroll 16
        for (int h = 0; h < heads; ++h) sum[h][r] = fma(load_first(q + h * d + c, d - c), row, sum[h][r]);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < heads; ++h)
#pragma GCC unroll 16
      for (int r = 0; r < strands; r += 4) store_sums_of_four(p + h * ldp + j + r, sum[h][r], sum[h][r + 1], sum[h][r + 2], sum[h][r + 3]);
  }
}

// y[heads, columns] = inverse[heads] * p[heads, keys] . v[keys, columns from c on], `strands` keys at once so that there are enough
// independent sums to hide the latency of a multiply-add.
template <int heads, int vectors, int strands, class Rows>
void few_values(const float* p, std::int64_t ldp, std::int64_t keys, const Rows& v, std::int64_t c, const float* inverse, float* y,
                std::int64_t ldy, std::int64_t columns) {
  Vector sum[strands * heads][vectors];
  clear(sum);
  const auto vector = [&](auto row, int u) { return vectors == 1 ? widen_first(row, columns) : widen(row + u * kLanes); };
  std::int64_t j = 0;
  for (; j + strands <= keys; j += strands)
#pragma GCC unroll 16
    for (int s = 0; s < strands; ++s) {
      const auto row = v.at(j + s) + c;
#pragma GCC unroll 16
      for (int u = 0; u < vectors; ++u) {
        const Vector x = vector(row, u);
#pragma GCC unroll 16
        for (int h = 0; h < heads; ++h) sum[s * heads + h][u] = fma(broadcast(p + h * ldp + j + s), x, sum[s * heads + h][u]);
      }
    }
  for (; j < keys; ++j) {
    const auto row = v.at(j) + c;
#pragma GCC unroll 16
    for (int u = 0; u < vectors; ++u) {
      const Vector x = vector(row, u);
#pragma GCC unroll 16
      for (int h = 0; h < heads; ++h) sum[h][u] = fma(broadcast(p + h * ldp + j), x, sum[h][u]);
    }
  }
#pragma GCC unroll 16
  for (int h = 0; h < heads; ++h)
#pragma GCC unroll 16
    for (int u = 0; u < vectors; ++u) {
      Vector total = sum[h][u];
#pragma GCC unroll 16
      for (int s = 1; s < strands; ++s) total = add(total, sum[s * heads + h][u]);
      store_first(y + h * ldy + u * kLanes, mul(total, broadcast(inverse + h)), columns - u * kLanes);
    }
}

// Query i of heads [head, head + heads).
template <int heads, bool windowed, class Rows>
void attend_few(const AttentionTask& task, const Rows& all_keys, const Rows& all_values, std::int64_t i, std::int64_t head) {
  const std::int64_t d = task.d, first = first_key<windowed>(task, i), keys = end_key<windowed>(task, i) - first, ldp = padded(keys, 8) + kPanel;
  float* p = static_cast<float*>(task.scratch);
  float* q = p + heads * ldp;
  pack_queries(task.q + i * task.ldq + head * d, d, heads, d, factor_of(task), q);
  const Rows k = all_keys.from(first), v = all_values.from(first);
  few_scores<heads, heads == 1 ? 8 : 4>(q, d, k, v, keys, p, ldp);
  for (std::int64_t h = 0; h < heads; ++h) k.times_scales(p + h * ldp, keys);
  const auto first_of = [&](std::int64_t) { return std::int64_t{0}; };
  const auto end_of = [&](std::int64_t) { return keys; };
  for (std::int64_t h = 0; adjusts(task) && h < heads; ++h)
    adjust_rows(task, head + h, task.position + i - first, p + h * ldp, ldp, 1, first_of, end_of, q + heads * d);
  float inverse[4];
  softmax(p, ldp, heads, first_of, end_of, inverse);
  for (std::int64_t h = 0; h < heads; ++h) v.times_scales(p + h * ldp, keys);
  float* y = task.y + i * task.ldy + head * d;
  std::int64_t c = 0;
  const auto columns = [&](auto tile, int vectors) {
    const std::int64_t width = vectors * kLanes;
    for (; c + width <= d || (vectors == 1 && c < d); c += width)
      tile(p, ldp, keys, v, c, inverse, y + c, d, at_most(width, d - c));
  };
  if (heads == 1) columns(few_values<heads, 8, 1, Rows>, 8);
  columns(few_values<heads, 4, heads == 1 ? 2 : 1, Rows>, 4);
  columns(few_values<heads, 2, heads == 1 ? 4 : 2, Rows>, 2);
  columns(few_values<heads, 1, heads == 1 ? 8 : 4, Rows>, 1);
}

}  // namespace
}  // namespace aerogel
