// Attention with products of words, over the vocabulary of parts.h. `tile` is the rows of queries in a register tile (times two
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

#include "ops/attention_int16/parts.h"

namespace aerogel {
namespace {

// What a thread's scratch holds.
struct Words {
  std::int16_t* queries;  // [128][padded d]
  std::int16_t* keys;     // [128][padded d]
  std::int32_t* k_panels, *v_panels;
  float* scores;          // [24][128 + 2 panels]
  float* distances;
  float of_queries[kQueries], largest[kQueries], sum[kQueries];
  float of_keys[kChunk + kPanel], exponents[kChunk + kPanel], weights[kChunk + kPanel];
};

constexpr std::int64_t kScoresLd = kChunk + kPanel;

inline void share(void* scratch, std::int64_t d, Words* words) {
  const std::int64_t width = padded(d, kPanel);
  words->queries = static_cast<std::int16_t*>(scratch);
  words->keys = words->queries + kQueries * width;
  words->k_panels = reinterpret_cast<std::int32_t*>(words->keys + kChunk * width);
  words->v_panels = words->k_panels + kChunk * width / 2;
  words->scores = reinterpret_cast<float*>(words->v_panels + kChunk * width / 2);
  words->distances = words->scores + kRows * kScoresLd;
}

// Some queries of a task beside a chunk of its keys.
struct Part {
  std::int64_t head, first, queries;  // queries [first, first + queries)
  std::int64_t base, keys;            // keys [base, base + keys)
  bool only;                          // there are no other chunks
};

// The keys of a chunk as codes, in panels of pairs.
inline void pack_chunk(const AttentionTask& task, const Part& part, Words& words) {
  const std::int64_t width = padded(task.d, kPanel);
  word_rows(task.k + part.base * task.ldk, task.ldk, part.keys, task.d, words.keys, words.of_keys);
  for (std::int64_t j = part.keys; j < padded(part.keys, kPanel); ++j) words.of_keys[j] = 0.0f;
  // A pair of words moves as a float does.
  pack_keys(reinterpret_cast<const float*>(words.keys), width / 2, part.keys, width / 2, reinterpret_cast<float*>(words.k_panels));
  pair_values(task.v + part.base * task.ldv, task.ldv, part.keys, task.d, words.v_panels, words.exponents, words.weights);
}

// The softmax of rows [0, rows) of the scores, of queries from part.first + at on. keep, take: what y and the new sums are multiplied by.
template <class First, class End>
void word_softmax(const Part& part, std::int64_t at, std::int64_t rows, const First& first, const End& end, Words& words, float* keep, float* take) {
  float top[kRows + 4], sum[kRows + 4];
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t seen = end(r) - first(r);
    top[r] = seen > 0 ? largest_of(words.scores + r * kScoresLd + first(r), seen) : kNothing;
  }
  for (std::int64_t r = 0; r < rows; r += 4) {
    Vector sums[4];
    for (std::int64_t i = 0; i < 4; ++i)
      sums[i] = r + i < rows ? word_powers(words.scores + (r + i) * kScoresLd, first(r + i), end(r + i), padded(part.keys, kPanel), top[r + i], words.weights)
                             : splat(1.0f);
    store_sums_of_four(sum + r, sums[0], sums[1], sums[2], sums[3]);
  }
  const float unit = 1.0f / 4096.0f;  // values are whole numbers of it
  if (part.only) {
    for (std::int64_t r = 0; r < rows; ++r) take[r] = unit / sum[r];
    return;
  }
  float* const largest = words.largest + at;
  float* const total = words.sum + at;
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

template <int tile, bool windowed>
void attend_chunk(const AttentionTask& task, const Part& part, Words& words) {
  const std::int64_t d = task.d, width = padded(d, kPanel), depth = padded(part.keys, kPanel) / 2;
  const std::int32_t* const queries = reinterpret_cast<const std::int32_t*>(words.queries);
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
          WordTiles<tile>::score(height, columns)(queries + (at + r) * width / 2, width / 2, words.k_panels + j * width / 2, width / 2,
                                                  words.of_queries + at + r, words.of_keys + j, words.exponents + j,
                                                  words.scores + r * kScoresLd + j, kScoresLd);
      });
    if (adjusts(task))
      adjust_rows(task, part.head, task.position + query - part.base, words.scores, kScoresLd, rows, first_of, end_of, words.distances);
    float keep[kRows + kLanes], take[kRows + kLanes];
    word_softmax(part, at, rows, first_of, end_of, words, keep, take);
    const std::int32_t* const p = reinterpret_cast<const std::int32_t*>(words.scores);
    for (std::int64_t c = 0; c < d; c += kPanel)
      cut.each([&](std::int64_t r, std::int64_t height) {
        const std::int64_t from = first_of(r) / kPanel * kPanel / 2, to = padded(end_of(r + height - 1), kPanel) / 2;
        WordTiles<tile>::value(height, d - c, !part.only)(p + r * kScoresLd + from, kScoresLd, words.v_panels + c * depth + from * kPanel, to - from,
                                                          keep + r, take + r, task.y + part.head * d + (query + r) * task.ldy + c, task.ldy, d - c);
      });
  }
}

// Divides by the sums of the exponentials.
inline void finish(const AttentionTask& task, const Part& part, const Words& words) {
  for (std::int64_t i = 0; i < part.queries; ++i) {
    float* const y = task.y + part.head * task.d + (part.first + i) * task.ldy;
    const Vector inverse = splat(1.0f / words.sum[i]);
    for (std::int64_t c = 0; c < task.d; c += kLanes) store_first(y + c, mul(load_first(y + c, task.d - c), inverse), task.d - c);
  }
}

template <int tile, bool windowed>
void attend_words(const AttentionTask& task) {
  Words words;
  share(task.scratch, task.d, &words);
  for (std::int64_t head = 0; head < task.heads; ++head)
    for (std::int64_t first = 0; first < task.queries; first += kQueries) {
      Part part{head, first, at_most(kQueries, task.queries - first), 0, 0, false};
      const std::int64_t begin = first_key<windowed>(task, first), end = end_key<windowed>(task, first + part.queries - 1);
      part.only = end - begin <= kChunk;
      word_rows(task.q + head * task.d + first * task.ldq, task.ldq, part.queries, task.d, words.queries, words.of_queries);
      for (std::int64_t i = 0; i < part.queries; ++i) words.of_queries[i] *= task.scale * kLog2E;
      if (!part.only)
        for (std::int64_t i = 0; i < part.queries; ++i) {
          words.largest[i] = kNothing;
          words.sum[i] = 0.0f;
          float* const y = task.y + head * task.d + (first + i) * task.ldy;
          for (std::int64_t c = 0; c < task.d; c += kLanes) store_first(y + c, splat(0.0f), task.d - c);
        }
      for (part.base = begin; part.base < end; part.base += kChunk) {
        if (end - begin > kMany && stop_requested()) return;
        part.keys = at_most(kChunk, end - part.base);
        pack_chunk(task, part, words);
        attend_chunk<tile, windowed>(task, part, words);
      }
      if (!part.only) finish(task, part, words);
    }
}

template <int tile>
void attend_in_words(const AttentionTask& task) {
  task.window < 0 ? attend_words<tile, false>(task) : attend_words<tile, true>(task);
}

}  // namespace
}  // namespace aerogel
