// Over the vocabulary of an ops/math_<isa>.h, which is included before, and the parts of attention.
//
// All three products are those of tiles with panels. Positions are rows of two small matrices, so a block of queries is multiplied
// with the rows that its distances name, each once, and so are the keys, once for all queries; a pass over the scores then picks, by
// distance, from both. Panels of positions that a tile's distances do not reach are left out:
//
//     by_query    [block][rows]    queries . position_keys
//     by_key      [keys][rows]     keys . position_queries
//     index       [distances]      the row of a distance, from the smallest on
#pragma once

#include "ops/attention/parts.h"

namespace aerogel {
namespace {

// The rows of positions that some distances name: from `first` on, `count` of them.
struct Positions {
  const std::int32_t* index;  // of distance `lowest` and those that follow, from `first`
  std::int64_t lowest, first, count;
  std::int64_t row(std::int64_t distance) const { return index[distance - lowest]; }
};

Positions positions_of(const DisentangledTask& task, std::int32_t* index) {
  const std::int64_t lowest = -(task.position + task.queries - 1), highest = task.keys - 1 - task.position;
  const auto row = [&](std::int64_t t) { return task.rows[at_least(-task.reach, at_most(task.reach, t)) + task.reach]; };
  const std::int32_t first = row(lowest);
  for (std::int64_t t = lowest; t <= highest; ++t) index[t - lowest] = row(t) - first;
  return {index, lowest, first, row(highest) - first + 1};
}

// out[rows, ld] = x[rows, d] . panels, of the columns from low(first row of a tile) to high(its last row).
template <int tile, class Low, class High>
void multiply_rows(const float* x, std::int64_t rows, std::int64_t d, const float* panels, std::int64_t columns, const Low& low,
                   const High& high, float* out, std::int64_t ld) {
  const Cut<tile> cut(rows);
  for (std::int64_t c = 0; c < columns; c += kPanel)
    cut.each([&](std::int64_t r, std::int64_t height) {
      if (c + kPanel > low(r) && c <= high(r + height - 1))
        Tiles<tile, false>::score(height, columns - c)(x + r * d, panels + c * d, d, out + r * ld + c, ld);
    });
}

// Adds to a row of scores what its distances pick.
template <bool by_query, bool by_key>
inline void pick(float* s, std::int64_t keys, const std::int32_t* index, const float* of_query, const float* of_keys, std::int64_t ld) {
  for (std::int64_t j = 0; j < keys; ++j) {
    float more = by_query ? of_query[index[j]] : 0.0f;
    if (by_key) more += of_keys[j * ld + index[j]];
    s[j] += more;
  }
}

template <int tile>
void attend_disentangled(const DisentangledTask& task) {
  const std::int64_t d = task.d, keys = task.keys, lds = padded(keys, kPanel) + kPanel, block = at_most(kBlock, task.queries);
  const float factor = task.scale * kLog2E;
  std::int32_t* index = static_cast<std::int32_t*>(task.scratch);
  const Positions positions = positions_of(task, index);
  const std::int64_t ldr = padded(positions.count, kPanel);
  float* k_panels = reinterpret_cast<float*>(index + keys + task.queries);
  float* values = k_panels + padded(keys, kPanel) * d;
  float* key_panels = values + keys * padded(d, kPanel);
  float* query_panels = key_panels + ldr * d;
  float* scaled_keys = query_panels + ldr * d;
  float* by_key = scaled_keys + keys * d;
  float* scores = by_key + keys * ldr;
  float* by_query = scores + block * lds;
  float* queries = by_query + block * ldr;

  pack_keys(task.k, task.ld, keys, d, k_panels);
  pack_values(task.v, task.ld, keys, d, values);
  if (task.position_keys != nullptr)
    pack_keys(task.position_keys + positions.first * task.ldp, task.ldp, positions.count, d, key_panels);
  if (task.position_queries != nullptr) {
    pack_keys(task.position_queries + positions.first * task.ldp, task.ldp, positions.count, d, query_panels);
    pack_queries(task.k, task.ld, keys, d, factor, scaled_keys);
    multiply_rows<tile>(
        scaled_keys, keys, d, query_panels, positions.count,
        [&](std::int64_t j) { return positions.row(j - (task.position + task.queries - 1)); },
        [&](std::int64_t j) { return positions.row(j - task.position); }, by_key, ldr);
  }
  for (std::int64_t first = 0; first < task.queries; first += block) {
    if (keys > kMany && stop_requested()) return;
    const std::int64_t rows = at_most(block, task.queries - first), at = task.position + first;
    pack_queries(task.q + first * task.ld, task.ld, rows, d, factor, queries);
    multiply_rows<tile>(
        queries, rows, d, k_panels, keys, [](std::int64_t) { return std::int64_t{0}; }, [&](std::int64_t) { return keys; }, scores, lds);
    if (task.position_keys != nullptr)  // the distances of a later query are smaller
      multiply_rows<tile>(
          queries, rows, d, key_panels, positions.count, [&](std::int64_t) { return positions.row(-(at + rows - 1)); },
          [&](std::int64_t) { return positions.row(keys - 1 - at); }, by_query, ldr);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int32_t* const by_distance = positions.index - (at + r) - positions.lowest;
      float* const s = scores + r * lds;
      const float* const of_query = by_query + r * ldr;
      if (task.position_keys != nullptr && task.position_queries != nullptr)
        pick<true, true>(s, keys, by_distance, of_query, by_key, ldr);
      else if (task.position_keys != nullptr)
        pick<true, false>(s, keys, by_distance, of_query, by_key, ldr);
      else if (task.position_queries != nullptr)
        pick<false, true>(s, keys, by_distance, of_query, by_key, ldr);
    }
    float inverse[kBlock];
    softmax(scores, lds, rows, [](std::int64_t) { return std::int64_t{0}; }, [&](std::int64_t) { return keys; }, inverse);
    const Cut<tile> cut(rows);
    for (std::int64_t c = 0; c < d; c += kPanel)
      cut.each([&](std::int64_t r, std::int64_t height) {
        Tiles<tile, false>::value(height, d - c)(scores + r * lds, lds, values + c * keys, kPanel, keys, 0, 0, inverse + r,
                                                 task.y + (first + r) * task.ldy + c, task.ldy, d - c);
      });
  }
}

}  // namespace
}  // namespace aerogel
