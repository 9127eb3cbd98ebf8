// Attention (ops/attention/body.h) over rows that are kept in blocks, in few bits where that is asked for. Over the vocabulary of an
// ops/math_<isa>.h, which is included before.
//
// Many queries: the panels are made from the blocks, and what follows does not know of them. Few queries (decode): rows are widened
// where they are multiplied. The scale of an int8 row is multiplied with its score, or with the row's weight, instead of with
// each of its numbers.
#pragma once

#include "ops/attention/body.h"

namespace aerogel {
namespace {

// T: float, std::uint16_t (f16) or std::int8_t.
template <class T>
struct KeptRows {
  static constexpr bool in_place = false;
  const std::uint8_t* const* blocks;
  KeptPlace place;
  std::int64_t first, d;

  const T* at(std::int64_t j) const {
    const std::int64_t t = first + j;
    return reinterpret_cast<const T*>(blocks[t / kKeptTokens] + place.at) + t % kKeptTokens * d;
  }
  const float* scale_at(std::int64_t j) const {
    const std::int64_t t = first + j;
    return reinterpret_cast<const float*>(blocks[t / kKeptTokens] + place.scales) + t % kKeptTokens;
  }
  float scale(std::int64_t j) const { return sizeof(T) == 1 ? *scale_at(j) : 1.0f; }
  KeptRows from(std::int64_t j) const { return {blocks, place, first + j, d}; }
  void times_scales(float* p, std::int64_t rows) const {
    if (sizeof(T) != 1) return;
    for (std::int64_t j = 0, n = 0; j < rows; j += n) {
      n = at_most(rows - j, kKeptTokens - (first + j) % kKeptTokens);  // what is left of the block
      const float* const scales = scale_at(j);
      for (std::int64_t i = 0; i < n; i += kLanes)
        store_first(p + j + i, mul(load_first(p + j + i, n - i), load_first(scales + i, n - i)), n - i);
    }
  }
};

// out[d] = the row; multiplied by `scale` only where rows have one, so that floats stay what they are.
template <class T>
inline void widen_row(const T* row, std::int64_t d, float scale, float* out) {
  const Vector factor = splat(scale);
  const auto scaled = [&](Vector v) { return sizeof(T) == 1 ? mul(v, factor) : v; };
  std::int64_t c = 0;
  for (; c + kLanes <= d; c += kLanes) store(out + c, scaled(widen(row + c)));
  if (c < d) store_first(out + c, scaled(widen_first(row + c, d - c)), d - c);
}

// Panel by panel through a buffer that stays in L1.
template <class T>
void pack_keys(const KeptRows<T>& k, std::int64_t keys, std::int64_t d, float* out) {
  alignas(64) float rows[kPanel * 256];
  for (std::int64_t j = 0; j < keys; j += kPanel, out += kPanel * d) {
    const std::int64_t n = at_most(kPanel, keys - j);
    for (std::int64_t r = 0; r < n; ++r) {
      if (j + r + kAhead < keys) prefetch_row(k.at(j + r + kAhead), d);
      widen_row(k.at(j + r), d, k.scale(j + r), rows + r * d);
    }
    pack_keys(rows, d, n, d, out);
  }
}

template <class T>
void pack_values(const KeptRows<T>& v, std::int64_t keys, std::int64_t d, float* out) {
  for (std::int64_t j = 0; j < keys; ++j) {
    const T* const row = v.at(j);
    const Vector factor = splat(v.scale(j));
    const auto scaled = [&](Vector x) { return sizeof(T) == 1 ? mul(x, factor) : x; };
    if (j + kAhead < keys) prefetch_row(v.at(j + kAhead), d);
    float* to = out + j * kPanel;
    std::int64_t c = 0;
    for (; c + kPanel <= d; c += kPanel, to += keys * kPanel) {
      store(to, scaled(widen(row + c)));
      store(to + kLanes, scaled(widen(row + c + kLanes)));
    }
    if (c < d) {
      store(to, scaled(widen_first(row + c, d - c)));
      store(to + kLanes, d - c > kLanes ? scaled(widen_first(row + c + kLanes, d - c - kLanes)) : splat(0.0f));
    }
  }
}

template <int tile, class T>
void attend_kept(const CachedAttentionTask& cached) {
  const auto rows = [&](const KeptPlace& place) { return KeptRows<T>{cached.blocks, place, cached.first, cached.task.d}; };
  attend<tile>(cached.task, rows(cached.keys), rows(cached.values), rows({cached.next_keys, 0}), cached.next_keys < 0 ? 0 : cached.task.keys);
}

template <int tile>
void attend_cached(const CachedAttentionTask& cached) {
  switch (cached.numbers) {
    case Kept::float32: return attend_kept<tile, float>(cached);
    case Kept::float16: return attend_kept<tile, std::uint16_t>(cached);
    case Kept::int8: return attend_kept<tile, std::int8_t>(cached);
  }
}

}  // namespace
}  // namespace aerogel
