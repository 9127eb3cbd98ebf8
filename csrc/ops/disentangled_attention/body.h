// Over the vocabulary of an ops/math_<isa>.h, which is included before, and the parts of attention.
//
// All three products are those of tiles with panels. Positions are rows of two small matrices, so a block of queries is multiplied
// with the rows that its distances name, each once, and so are the keys, once for all queries; a pass over the scores then picks, by
// distance, from both, a square of queries and keys at a time. Panels of positions that a tile's distances do not reach are left out:
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
  const std::int32_t* index;  // of distance `lowest` and those that follow, from `first`; kSquare more at both ends
  std::int64_t lowest, first, count;
  bool near;  // whether the next distance has the same row or the next one
  std::int64_t row(std::int64_t distance) const { return index[distance - lowest]; }
};

Positions positions_of(const DisentangledTask& task, std::int32_t* index) {
  const std::int64_t lowest = -(task.position + task.queries - 1), highest = task.keys - 1 - task.position;
  const auto row = [&](std::int64_t t) { return task.rows[at_least(-task.reach, at_most(task.reach, t)) + task.reach]; };
  const std::int32_t first = row(lowest), last = row(highest);
  bool near = true;
  for (std::int64_t t = lowest; t <= highest; ++t) {
    index[t - lowest] = row(t) - first;
    near = near && (t == lowest || index[t - lowest] <= index[t - lowest - 1] + 1);
  }
  for (int i = 1; i <= kSquare; ++i) {
    index[-i] = 0;
    index[highest - lowest + i] = last - first;
  }
  return {index, lowest, first, last - first + 1, near};
}

// out[rows, ld] = x[rows, d] . panels, of a tile the columns from low(its first row, its last row) to high(the same).
template <int tile, class Low, class High>
void multiply_rows(const float* x, std::int64_t rows, std::int64_t d, const float* panels, std::int64_t columns, const Low& low,
                   const High& high, float* out, std::int64_t ld) {
  const Cut<tile> cut(rows);
  for (std::int64_t c = 0; c < columns; c += kPanel)
    cut.each([&](std::int64_t r, std::int64_t height) {
      if (c + kPanel > low(r, r + height - 1) && c <= high(r, r + height - 1))
        Tiles<tile, false>::score(height, columns - c)(x + r * d, panels + c * d, d, out + r * ld + c, ld);
    });
}

// Products by the rows of positions, and what is added to the scores from them; null where there are none.
struct Products {
  const float* by_query;
  const float* by_key;
  std::int64_t ld;
};

// Adds to a row of scores, of query r of a block at position `at`, what its distances pick.
void pick_row(const Positions& positions, const Products& products, std::int64_t at, std::int64_t r, std::int64_t keys, float* s) {
  const std::int32_t* const index = positions.index - (at + r) - positions.lowest;
  for (std::int64_t j = 0; j < keys; ++j) {
    float more = products.by_query == nullptr ? 0.0f : products.by_query[r * products.ld + index[j]];
    if (products.by_key != nullptr) more += products.by_key[j * products.ld + index[j]];
    s[j] += more;
  }
}

// The same of kSquare queries from r on: a key's products stand in the order of the queries, the last one first, and become rows of
// scores by a transpose. Keys up to the next multiple of kSquare, and queries, need not exist.
template <bool by_query, bool by_key>
void pick_square(const Positions& positions, const Products& products, std::int64_t at, std::int64_t r, std::int64_t keys, float* scores,
                 std::int64_t lds) {
  const std::int32_t* const last = positions.index - (at + r + kSquare - 1) - positions.lowest;  // of the last query
  const float* const of_query = products.by_query + (r + kSquare - 1) * products.ld;
  float* const s = scores + (r + kSquare - 1) * lds;
  for (std::int64_t j = 0; j < keys; j += kSquare) {
    Vector8 more[kSquare];
    if (by_key) {
#pragma GCC unroll 8
      for (int c = 0; c < kSquare; ++c) look_up(products.by_key + (j + c) * products.ld, last + j + c, more[c]);
      transpose(more);
    }
#pragma GCC unroll 8
    for (int q = 0; q < kSquare; ++q) {
      Vector8 sum, of;
      load(s - q * lds + j, sum);
      if (by_query) {
        look_up(of_query - q * products.ld, last + j + q, of);
        more[q] = by_key ? add(of, more[q]) : of;
      }
      store(s - q * lds + j, add(sum, more[q]));
    }
  }
}

// Of all rows of a block.
void pick(const Positions& positions, const Products& products, std::int64_t at, std::int64_t rows, std::int64_t keys, float* scores,
          std::int64_t lds) {
  if (products.by_query == nullptr && products.by_key == nullptr) return;
  if (!positions.near) {
    for (std::int64_t r = 0; r < rows; ++r) pick_row(positions, products, at, r, keys, scores + r * lds);
    return;
  }
  const auto square = products.by_key == nullptr     ? pick_square<true, false>
                      : products.by_query == nullptr ? pick_square<false, true>
                                                     : pick_square<true, true>;
  for (std::int64_t r = 0; r < rows; r += kSquare) square(positions, products, at, r, keys, scores, lds);
}

template <int tile>
void attend_disentangled(const DisentangledTask& task) {
  const std::int64_t d = task.d, keys = task.keys, lds = padded(keys, kPanel) + kPanel;
  const std::int64_t block = at_most(kBlock, padded(task.queries, kSquare));
  const float factor = task.scale * kLog2E;
  std::int32_t* index = static_cast<std::int32_t*>(task.scratch) + kSquare;
  const Positions positions = positions_of(task, index);
  // An odd number of panels, so that what keys have beside each other does not collide in L1.
  const std::int64_t ldr = padded(positions.count, kPanel) | kPanel;
  float* k_panels = reinterpret_cast<float*>(index + keys + task.queries + kSquare);
  float* values = k_panels + padded(keys, kPanel) * d;
  float* key_panels = values + keys * padded(d, kPanel);
  float* query_panels = key_panels + ldr * d;
  float* scaled_keys = query_panels + ldr * d;
  float* by_key = scaled_keys + keys * d;
  float* scores = by_key + padded(keys, kSquare) * ldr;
  float* by_query = scores + block * lds;
  float* queries = by_query + block * ldr;

  const Products products{task.position_keys == nullptr ? nullptr : by_query, task.position_queries == nullptr ? nullptr : by_key, ldr};
  pack_keys(task.k, task.ld, keys, d, k_panels);
  pack_values(task.v, task.ld, keys, d, values);
  if (task.position_keys != nullptr)
    pack_keys(task.position_keys + positions.first * task.ldp, task.ldp, positions.count, d, key_panels);
  if (task.position_queries != nullptr) {
    pack_keys(task.position_queries + positions.first * task.ldp, task.ldp, positions.count, d, query_panels);
    pack_queries(task.k, task.ld, keys, d, factor, scaled_keys);
    multiply_rows<tile>(
        scaled_keys, keys, d, query_panels, positions.count,
        [&](std::int64_t j, std::int64_t) { return positions.row(j - (task.position + task.queries - 1)); },
        [&](std::int64_t, std::int64_t j) { return positions.row(j - task.position); }, by_key, ldr);
  }
  for (std::int64_t first = 0; first < task.queries; first += block) {
    if (keys > kMany && stop_requested()) return;
    const std::int64_t rows = at_most(block, task.queries - first), at = task.position + first;
    pack_queries(task.q + first * task.ld, task.ld, rows, d, factor, queries);
    multiply_rows<tile>(
        queries, rows, d, k_panels, keys, [](std::int64_t, std::int64_t) { return std::int64_t{0}; },
        [&](std::int64_t, std::int64_t) { return keys; }, scores, lds);
    if (task.position_keys != nullptr)  // the distances of a later query are smaller
      multiply_rows<tile>(
          queries, rows, d, key_panels, positions.count, [&](std::int64_t, std::int64_t i) { return positions.row(-(at + i)); },
          [&](std::int64_t i, std::int64_t) { return positions.row(keys - 1 - (at + i)); }, by_query, ldr);
    pick(positions, products, at, rows, keys, scores, lds);
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
