// Attention with products of whole numbers, over the vocabulary of parts.h. `tile` is the rows of queries in a register tile (times two
// vectors of columns).
//
// Keys come in chunks of 128: their codes, and those of their values, are made and packed; then, 24 queries at a time, the scores, the
// softmax of this chunk alone, whose codes take the place of its scores, and the sums of its values, which are added to y as floats. A
// chunk's largest score is what its codes are relative to, so that many far keys count as much as they should beside a near one:
//
//     y = 2^(old - new) y + 2^(chunk - new) sums        the same of the sum of the exponentials; new = max(old, chunk)
//
// Nothing is longer than a chunk, so scratch does not grow with the keys. With one chunk y is written once, and divided on the way out
// of the registers.
//
// A key has scales of its own, and where a query does not see it, the code of its weight is 0: integers, so nothing of it is left
// in the sum, whatever it is.
#pragma once

#include "ops/attention_codes/parts.h"

namespace aerogel {
namespace {

// What a thread's scratch holds.
template <class Codes>
struct Codings {
  typename Codes::Code* queries;  // [128][padded d]
  typename Codes::Code* keys;     // [128][padded d]
  std::int32_t *k_panels, *v_panels;
  float* scores;          // [24][128 + 2 panels]
  float* distances;
  float of_queries[kQueries], largest[kQueries], sum[kQueries];
  float of_keys[kChunk + kPanel], exponents[kChunk + kPanel], weights[kChunk + kPanel];
  std::int32_t starts[kChunk + kPanel];
};

constexpr std::int64_t kScoresLd = kChunk + kPanel;

template <class Codes>
inline void share(void* scratch, std::int64_t d, Codings<Codes>* own) {
  const std::int64_t width = padded(d, kPanel);
  own->queries = static_cast<typename Codes::Code*>(scratch);
  own->keys = own->queries + kQueries * width;
  own->k_panels = reinterpret_cast<std::int32_t*>(own->keys + kChunk * width);
  own->v_panels = own->k_panels + kChunk * width / Codes::per;
  own->scores = reinterpret_cast<float*>(own->v_panels + kChunk * width / Codes::per);
  own->distances = own->scores + kRows * kScoresLd;
}

// Some queries of a task beside a chunk of its keys.
struct Part {
  std::int64_t head, first, queries;  // queries [first, first + queries)
  std::int64_t base, keys;            // keys [base, base + keys)
  bool only;                          // there are no other chunks
};

// The keys of a chunk as codes, in panels of groups.
template <class Codes>
inline void pack_chunk(const AttentionTask& task, const Part& part, Codings<Codes>& own) {
  const std::int64_t width = padded(task.d, kPanel), depth = width / Codes::per;
  code_rows<Codes, false>(task.k + part.base * task.ldk, task.ldk, part.keys, task.d, own.keys, own.of_keys);
  for (std::int64_t j = part.keys; j < padded(part.keys, kPanel); ++j) own.of_keys[j] = 0.0f;
  // A group moves as a float does.
  pack_keys(reinterpret_cast<const float*>(own.keys), depth, part.keys, depth, reinterpret_cast<float*>(own.k_panels));
  starts_of_keys<Codes>(own.k_panels, part.keys, depth, own.starts);
  group_values<Codes>(task.v + part.base * task.ldv, task.ldv, part.keys, task.d, own.v_panels, own.exponents, own.weights);
}

// The softmax of rows [0, rows) of the scores, of queries from part.first + at on. keep, take: what y and the new sums are multiplied by.
template <class Codes, class First, class End>
void code_softmax(const Part& part, std::int64_t at, std::int64_t rows, const First& first, const End& end, Codings<Codes>& own, float* keep, float* take) {
  float top[kRows + 4], sum[kRows + 4];
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t seen = end(r) - first(r);
    top[r] = seen > 0 ? largest_of(own.scores + r * kScoresLd + first(r), seen) : kNothing;
  }
  for (std::int64_t r = 0; r < rows; r += 4) {
    Vector sums[4];
    for (std::int64_t i = 0; i < 4; ++i)
      sums[i] = r + i < rows ? code_powers<Codes>(own.scores + (r + i) * kScoresLd, first(r + i), end(r + i), padded(part.keys, Codes::step), top[r + i], own.weights)
                             : splat(1.0f);
    store_sums_of_four(sum + r, sums[0], sums[1], sums[2], sums[3]);
  }
  constexpr float unit = 1.0f / static_cast<float>(1 << Codes::kind.value_bits);  // values are whole numbers of it
  if (part.only) {
    for (std::int64_t r = 0; r < rows; ++r) take[r] = unit / sum[r];
    return;
  }
  float* const largest = own.largest + at;
  float* const total = own.sum + at;
  for (std::int64_t r = 0; r < padded(rows, kLanes); ++r) {
    const float old = r < rows ? largest[r] : 0.0f, here = r < rows ? top[r] : 0.0f, now = old < here ? here : old;
    keep[r] = old - now < -127.0f ? -127.0f : old - now;
    take[r] = here - now < -127.0f ? -127.0f : here - now;
    if (r < rows) largest[r] = now;
  }
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    store(keep + r, exp2(load(keep + r)));
    store(take + r, exp2(load(take + r)));
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    total[r] = total[r] * keep[r] + sum[r] * take[r];
    take[r] *= unit;
  }
}

template <class Codes, int tile, bool windowed>
void attend_chunk(const AttentionTask& task, const Part& part, Codings<Codes>& own) {
  constexpr std::int64_t per = Codes::per, step = Codes::step;
  const std::int64_t d = task.d, depth = padded(d, kPanel) / per, groups = padded(part.keys, step) / per;
  const std::int32_t* const queries = reinterpret_cast<const std::int32_t*>(own.queries);
  for (std::int64_t at = 0; at < part.queries; at += kRows) {
    const std::int64_t rows = at_most(kRows, part.queries - at), query = part.first + at;
    const auto clip = [&](std::int64_t j) { return at_least(0, at_most(part.keys, j - part.base)); };
    const auto first_of = [&](std::int64_t r) { return clip(first_key<windowed>(task, query + r)); };
    const auto end_of = [&](std::int64_t r) { return clip(end_key<windowed>(task, query + r)); };
    const std::int64_t begin = first_of(0), end = end_of(rows - 1);
    if (begin >= end) continue;
    const Cut<tile> cut(rows);
    for (std::int64_t j = begin / kPanel * kPanel; j < end; j += kPanel)
      cut.each([&](std::int64_t r, std::int64_t height) {
        const std::int64_t columns = end_of(r + height - 1) - j;
        if (columns > 0 && j + kPanel > first_of(r))
          CodeTiles<Codes, tile>::score(height, columns)(queries + (at + r) * depth, depth, own.k_panels + j * depth, depth,
                                                         own.of_queries + at + r, {own.of_keys + j, own.exponents + j, own.starts + j},
                                                         own.scores + r * kScoresLd + j, kScoresLd);
      });
    if (adjusts(task))
      adjust_rows(task, part.head, task.position + query - part.base, own.scores, kScoresLd, rows, first_of, end_of, own.distances);
    float keep[kRows + kLanes], take[kRows + kLanes];
    code_softmax(part, at, rows, first_of, end_of, own, keep, take);
    const std::int32_t* const p = reinterpret_cast<const std::int32_t*>(own.scores);
    std::int32_t starts[kRows];
    if constexpr (Codes::value_offset != 0) starts_of_rows<Codes>(p, kScoresLd, rows, groups, starts);
    for (std::int64_t c = 0; c < d; c += kPanel)
      cut.each([&](std::int64_t r, std::int64_t height) {
        const std::int64_t from = first_of(r) / step * step / per, to = padded(end_of(r + height - 1), step) / per;
        CodeTiles<Codes, tile>::value(height, d - c, !part.only)(p + r * kScoresLd + from, kScoresLd, own.v_panels + c * groups + from * kPanel,
                                                                 to - from, {keep + r, take + r, starts + r}, task.y + part.head * d + (query + r) * task.ldy + c,
                                                                 task.ldy, d - c);
      });
  }
}

// Divides by the sums of the exponentials.
template <class Codes>
inline void finish(const AttentionTask& task, const Part& part, const Codings<Codes>& own) {
  for (std::int64_t i = 0; i < part.queries; ++i) {
    float* const y = task.y + part.head * task.d + (part.first + i) * task.ldy;
    const Vector inverse = splat(1.0f / own.sum[i]);
    for (std::int64_t c = 0; c < task.d; c += kLanes) store_first(y + c, mul(load_first(y + c, task.d - c), inverse), task.d - c);
  }
}

template <class Codes, int tile, bool windowed>
void attend_codes(const AttentionTask& task) {
  Codings<Codes> own;
  share(task.scratch, task.d, &own);
  for (std::int64_t head = 0; head < task.heads; ++head)
    for (std::int64_t first = 0; first < task.queries; first += kQueries) {
      Part part{head, first, at_most(kQueries, task.queries - first), 0, 0, false};
      const std::int64_t begin = first_key<windowed>(task, first), end = end_key<windowed>(task, first + part.queries - 1);
      part.only = end - begin <= kChunk;
      code_rows<Codes, true>(task.q + head * task.d + first * task.ldq, task.ldq, part.queries, task.d, own.queries, own.of_queries);
      for (std::int64_t i = 0; i < part.queries; ++i) own.of_queries[i] *= task.scale * kLog2E;
      if (!part.only)
        for (std::int64_t i = 0; i < part.queries; ++i) {
          own.largest[i] = kNothing;
          own.sum[i] = 0.0f;
          float* const y = task.y + head * task.d + (first + i) * task.ldy;
          for (std::int64_t c = 0; c < task.d; c += kLanes) store_first(y + c, splat(0.0f), task.d - c);
        }
      for (part.base = begin; part.base < end; part.base += kChunk) {
        if (end - begin > kMany && stop_requested()) return;
        part.keys = at_most(kChunk, end - part.base);
        pack_chunk(task, part, own);
        attend_chunk<Codes, tile, windowed>(task, part, own);
      }
      if (!part.only) finish(task, part, own);
    }
}

template <class Codes, int tile>
void attend_in_codes(const AttentionTask& task) {
  task.window < 0 ? attend_codes<Codes, tile, false>(task) : attend_codes<Codes, tile, true>(task);
}

}  // namespace
}  // namespace aerogel
