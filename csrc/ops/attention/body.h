// Attention as two small matrix products around a softmax, over the vocabulary of an ops/math_<isa>.h, which is included before. `tile`
// is the rows of queries in a register tile (times two vectors of columns).
//
// From kPack queries on, everything is first packed, so that both products read straight streams (q, k and v are slices
// of wide rows, whose strides collide in L1, and whose pages no hardware prefetcher crosses). With P = two vectors:
//
//     K panels  [ceil(keys/P)][d][P]         column = key
//     V panels  [ceil(d/P)][keys][P]         column = element of v
//     queries   [block][d]                   times scale * log2 e, so that the softmax is one of powers of two
//     scores    [block][padded keys + P]     a block of up to 48 queries; under 128 KB, a share of L2
//
// Queries times K panels gives scores, softmax happens in place, scores times V panels gives y; the sums' inverse is
// multiplied on the way out of the registers.
//
// With fewer queries (decode) packing would cost more than it gains: k and v are read where they are, once for up to kSharing
// query heads that share them (few.h).
//
// Causal, and with a window: a tile multiplies with the keys that all of its queries see, and then key by key with the rows that
// see more, before and behind these: keys that a query does not see never touch it, not even times 0. Panels that none of a
// tile's queries sees are left out.
//
// A soft cap, and what depends on the distance of query and key, are dealt with in one pass over the scores before the softmax; the
// latter are looked up in an array by distance, made once for a block, which every row reads from another place on:
//
//     distances  [block + keys]              a bias and a slope, times log2 e

#pragma once

#include "ops/attention/few.h"

namespace aerogel {
namespace {

constexpr std::int64_t kPack = 5;
constexpr std::int64_t kFew = 32;  // keys whose values need no packing

// ---- many queries ------------------------------------------------------------------------------------------------

// Fetches rows a few at a time, between tiles of a product that leaves the memory idle.
template <class Rows>
struct Ahead {
  Rows rows;
  std::int64_t next, end, d;
  void some() {
    for (int r = 0; r < 2 && next < end; ++r, ++next) prefetch_row(rows.at(next), d);
  }
};
template <class Rows>
Ahead(Rows, std::int64_t, std::int64_t, std::int64_t) -> Ahead<Rows>;

// next: the keys that the next call will probably read, `next_count` of them. levels[queries], where they are wanted: log2 of the
// sum of a query's 2^score.
template <int tile, bool windowed, class Rows>
void attend_packed(const AttentionTask& task, const Rows& k, const Rows& v, const Rows& next, std::int64_t next_count,
                   float* levels = nullptr) {
  const std::int64_t d = task.d, keys = end_key<windowed>(task, task.queries - 1), lds = padded(keys, kPanel) + kPanel;
  std::int64_t block = kBlock;
  while (block > tile && block * lds > 32768) block -= tile;
  float* k_panels = static_cast<float*>(task.scratch);
  float* packed_values = k_panels + padded(keys, kPanel) * d;
  float* scores = packed_values + keys * padded(d, kPanel);
  float* queries = scores + at_most(block, task.queries) * lds;
  float* distances = queries + at_most(block, task.queries) * d;
  pack_keys(k, keys, d, k_panels);
  // A few values are read where they are, if that never reaches beyond their rows.
  const bool in_place = Rows::in_place && keys <= kFew && d % kLanes == 0;
  const float* values = packed_values;
  std::int64_t value_ld = kPanel, value_step = keys;
  if constexpr (Rows::in_place) {
    if (in_place) values = v.rows, value_ld = v.ld, value_step = 1;
  }
  Ahead value_rows{v, 0, keys, d}, next_keys{next, 0, at_most(next_count, keys), d};

  for (std::int64_t head = 0; head < task.heads; ++head)
    for (std::int64_t first = 0; first < task.queries; first += block) {
      if (keys > kMany && stop_requested()) return;
      const std::int64_t rows = at_most(block, task.queries - first);
      const Cut<tile> cut(rows);
      pack_queries(task.q + head * d + first * task.ldq, task.ldq, rows, d, factor_of(task), queries);
      for (std::int64_t j = first_key<windowed>(task, first) / kPanel * kPanel; j < end_key<windowed>(task, first + rows - 1); j += kPanel)
        cut.each([&](std::int64_t r, std::int64_t height) {
          const std::int64_t columns = end_key<windowed>(task, first + r + height - 1) - j;
          value_rows.some();
          if (columns > 0 && (!windowed || j + kPanel > first_key<windowed>(task, first + r)))
            Tiles<tile, windowed>::score(height, columns)(queries + r * d, k_panels + j * d, d, scores + r * lds + j, lds);
        });
      float inverse[kBlock];
      const auto first_of = [&](std::int64_t r) { return first_key<windowed>(task, first + r); };
      const auto end_of = [&](std::int64_t r) { return end_key<windowed>(task, first + r); };
      if (adjusts(task)) adjust_rows(task, head, task.position + first, scores, lds, rows, first_of, end_of, distances);
      softmax(scores, lds, rows, first_of, end_of, inverse, levels == nullptr ? nullptr : levels + first);
      if (head == 0 && first == 0 && !in_place) pack_values(v, keys, d, packed_values);
      Ahead more_queries{FlatRows{task.q + head * d + (first + block) * task.ldq, task.ldq}, 0, at_most(block, task.queries - first - block), d};
      for (std::int64_t c = 0; c < d; c += kPanel) {
        const auto rows_at = [&](std::int64_t r, std::int64_t height) {
          // The keys that all of these rows see.
          const std::int64_t from = first_of(r + height - 1), to = end_of(r);
          Tiles<tile, windowed>::value(height, d - c)(scores + r * lds + from, lds, values + c * value_step + from * value_ld, value_ld, to - from,
                                            end_of(r + height - 1) - to, from - first_of(r), inverse + r,
                                            task.y + head * d + (first + r) * task.ldy + c, task.ldy, d - c);
        };
        cut.each([&](std::int64_t r, std::int64_t height) {
          more_queries.some();
          next_keys.some();
          if (!windowed || first_of(r + height - 1) <= end_of(r)) return rows_at(r, height);
          for (std::int64_t i = r; i < r + height; ++i) rows_at(i, 1);  // a narrow window
        });
      }
    }
}

// ---- many queries and many keys ----------------------------------------------------------------------------------

// y[d] = what it was times `keep`, and x[d] times `take`.
inline void blend(float* y, float keep, const float* x, float take, std::int64_t d) {
  const Vector of_y = splat(keep), of_x = splat(take);
  for (std::int64_t c = 0; c < d; c += kLanes)
    store_first(y + c, fma(load_first(y + c, d - c), of_y, mul(load_first(x + c, d - c), of_x)), d - c);
}

// The sums over parts of the keys are put together as in Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018): a
// part's result counts by 2^level, and all of them relative to the highest level so far. Without a window only; every query sees a
// key of every part.
//
//     scratch    one part's own | its result [queries][d] | its levels, highest levels, sums [queries] each
template <int tile, class Rows>
void attend_in_parts(const AttentionTask& task, const Rows& k, const Rows& v, const Rows& next, std::int64_t next_count) {
  const std::int64_t d = task.d, keys = end_key<false>(task, task.queries - 1), seen_by_all = end_key<false>(task, 0);
  const std::int64_t parts = (seen_by_all - 1) / kAttentionPart + 1, width = padded(d, kPanel), count = padded(task.queries, kPanel);
  float* const result = static_cast<float*>(task.scratch);
  float* const level = result + count * width;
  float* const highest = level + count;
  float* const sum = highest + count;
  for (std::int64_t head = 0; head < task.heads; ++head) {
    for (std::int64_t p = 0; p < parts; ++p) {
      if (keys > kMany && stop_requested()) return;
      const std::int64_t from = p * kAttentionPart, to = p + 1 < parts ? from + kAttentionPart : keys;
      AttentionTask part = task;
      part.q += head * d;
      part.heads = 1;
      part.keys = to - from;
      part.position -= from;
      part.y = result;
      part.ldy = width;
      part.scratch = sum + count;
      if (part.bias != nullptr) part.bias += head * (2 * task.reach + 1);
      if (part.slopes != nullptr) part.slopes += head;
      const bool last = p + 1 == parts;
      attend_packed<tile, false>(part, k.from(from), v.from(from), last ? next : k.from(to), last ? next_count : keys - to, level);
      for (std::int64_t r = 0; r < task.queries; ++r) {
        float* const y = task.y + r * task.ldy + head * d;
        const bool first = p == 0 || highest[r] == -__builtin_inff();  // nothing so far has any weight
        if (first || level[r] > highest[r]) {
          const float keep = first ? 0.0f : __builtin_exp2f(highest[r] - level[r]);
          if (first) __builtin_memcpy(y, result + r * width, static_cast<std::size_t>(d) * sizeof(float));
          else blend(y, keep, result + r * width, 1.0f, d);
          sum[r] = first ? 1.0f : sum[r] * keep + 1.0f;
          highest[r] = level[r];
        } else if (level[r] != -__builtin_inff()) {  // a NaN too: it has to be seen
          const float take = __builtin_exp2f(level[r] - highest[r]);
          blend(y, 1.0f, result + r * width, take, d);
          sum[r] += take;
        }
      }
    }
    for (std::int64_t r = 0; r < task.queries; ++r) {
      float* const y = task.y + r * task.ldy + head * d;
      const Vector inverse = splat(1.0f / sum[r]);
      for (std::int64_t c = 0; c < d; c += kLanes) store_first(y + c, mul(load_first(y + c, d - c), inverse), d - c);
    }
  }
}

// ---- which of them ------------------------------------------------------------------------------------------------

// The task's k, v and next_k are what the rows say.
template <int tile, bool windowed, class Rows>
void attend_all(const AttentionTask& task, const Rows& k, const Rows& v, const Rows& next, std::int64_t next_count) {
  if (!windowed && task.queries >= kPack && end_key<false>(task, 0) > kAttentionPart)
    return attend_in_parts<tile>(task, k, v, next, next_count);
  if (task.queries >= kPack) return attend_packed<tile, windowed>(task, k, v, next, next_count);
  const std::int64_t groups = (task.heads + kSharing - 1) / kSharing;
  for (std::int64_t i = 0; i < task.queries; ++i)
    for (std::int64_t g = 0, head = 0; g < groups; ++g) {
      const std::int64_t until = task.heads * (g + 1) / groups;
      if (until - head == 1) attend_few<1, windowed>(task, k, v, i, head);
      else if (until - head == 2) attend_few<2, windowed>(task, k, v, i, head);
      else attend_few<3, windowed>(task, k, v, i, head);
      head = until;
    }
}

template <int tile, class Rows>
void attend(const AttentionTask& task, const Rows& k, const Rows& v, const Rows& next, std::int64_t next_count) {
  task.window < 0 ? attend_all<tile, false>(task, k, v, next, next_count) : attend_all<tile, true>(task, k, v, next, next_count);
}

template <int tile>
void attend(const AttentionTask& task) {
  const FlatRows next{task.next_k, task.ldk};
  attend<tile>(task, FlatRows{task.k, task.ldk}, FlatRows{task.v, task.ldv}, next, task.next_k == nullptr ? 0 : task.keys);
}

}  // namespace
}  // namespace aerogel
