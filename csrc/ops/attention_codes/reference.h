// The reference of attention in whole numbers, query by query and head by head, with the codes of ops.h. Scratch: the codes of a chunk of keys.
#pragma once

#include <algorithm>
#include <cmath>

#include "ops/ops.h"

namespace aerogel {

void attention_scalar(const AttentionTask& task);

namespace {

std::uint32_t largest_bits(const float* x, std::int64_t d) {
  std::uint32_t most = 0;
  for (std::int64_t c = 0; c < d; ++c) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + c, sizeof bits);
    most = std::max(most, bits & 0x7fffffffu);
  }
  return most;
}

std::int16_t rounded(float x, float limit) {
  if (std::isnan(x)) return 0;  // what it is multiplied with makes a NaN of it
  return static_cast<std::int16_t>(std::nearbyint(std::clamp(x, -limit, limit)));
}

// x[d] as codes, times the scale that is returned.
float code(const AttentionKind& kind, const float* x, std::int64_t d, std::int16_t* codes) {
  const std::uint32_t bits = largest_bits(x, d);
  float found;
  __builtin_memcpy(&found, &bits, sizeof found);
  const float largest = found < kLeastMagnitude ? kLeastMagnitude : found, limit = kind.limit(d), factor = limit / largest;
  for (std::int64_t c = 0; c < d; ++c) codes[c] = rounded(x[c] * factor, limit);
  return bits >= kInfinityBits ? NAN : largest / limit;
}

// The keys that query i sees.
struct Seen {
  std::int64_t first, end;
  Seen(const AttentionTask& task, std::int64_t i) : first(0), end(task.keys) {
    const std::int64_t at = task.position + i;
    if (task.window >= 0) first = std::max(first, at - task.window), end = std::min(end, at + task.window + 1);
    if (task.causal) end = std::min(end, at + 1);
  }
};

float more(const AttentionTask& task, std::int64_t head, std::int64_t t) {
  float s = 0.0f;
  if (task.bias != nullptr) s += task.bias[head * (2 * task.reach + 1) + std::clamp(t, -task.reach, task.reach) + task.reach];
  if (task.slopes != nullptr) s -= task.slopes[head] * static_cast<float>(std::abs(t));
  return s * 1.44269504f;
}

// What is known of a query's row after some chunks.
struct Row {
  float largest = -1e30f, sum = 0.0f;
  float y[256] = {};
};

// Keys [base, base + keys) and their values, as codes.
struct Chunk {
  std::int64_t base, keys;
  const std::int16_t *k, *v;  // [keys, d]
  float of_keys[kAttentionChunk], exponents[kAttentionChunk], weights[kAttentionChunk];
};

void add_chunk(const AttentionKind& kind, const AttentionTask& task, std::int64_t i, std::int64_t head, const Chunk& chunk, const std::int16_t* q, float of_query, Row& row) {
  const Seen seen(task, i);
  const std::int64_t first = std::max<std::int64_t>(0, seen.first - chunk.base), end = std::min(chunk.keys, seen.end - chunk.base);
  if (first >= end) return;
  float s[kAttentionChunk], largest = -1e30f, sum = 0.0f;
  for (std::int64_t j = first; j < end; ++j) {
    std::int64_t products = 0;
    for (std::int64_t c = 0; c < task.d; ++c) products += q[c] * chunk.k[j * task.d + c];
    s[j] = static_cast<float>(products) * chunk.of_keys[j] * of_query + chunk.exponents[j] + more(task, head, chunk.base + j - task.position - i);
    if (s[j] > largest) largest = s[j];
  }
  std::int64_t sums[256] = {};
  for (std::int64_t j = first; j < end; ++j) {
    const float p = std::exp2(s[j] - largest) * kind.weight;
    sum += p * chunk.weights[j];
    const std::int64_t weight = rounded(p, kind.weight);
    for (std::int64_t c = 0; c < task.d; ++c) sums[c] += weight * chunk.v[j * task.d + c];
  }
  const float now = std::max(row.largest, largest), keep = std::exp2(row.largest - now), take = std::exp2(largest - now);
  row.largest = now;
  row.sum = row.sum * keep + sum * take;
  for (std::int64_t c = 0; c < task.d; ++c) row.y[c] = row.y[c] * keep + static_cast<float>(sums[c]) * (take * power_of_two(-kind.value_bits));
}

void attend_in_codes(const AttentionKind& kind, const AttentionTask& task) {
  if (!attention_in_codes(task)) return attention_scalar(task);
  const std::int64_t d = task.d;
  std::int16_t* const k = static_cast<std::int16_t*>(task.scratch);
  std::int16_t* const v = k + kAttentionChunk * d;
  for (std::int64_t i = 0; i < task.queries; ++i)
    for (std::int64_t head = 0; head < task.heads; ++head) {
      std::int16_t q[256];
      const float of_query = code(kind, task.q + i * task.ldq + head * d, d, q) * (task.scale * 1.44269504f);
      const std::int64_t begin = Seen(task, i / 128 * 128).first, end = Seen(task, i).end;
      Row row;
      for (std::int64_t base = begin; base < end; base += kAttentionChunk) {
        Chunk chunk{base, std::min(kAttentionChunk, end - base), k, v, {}, {}, {}};
        for (std::int64_t j = 0; j < chunk.keys; ++j) {
          chunk.of_keys[j] = code(kind, task.k + (base + j) * task.ldk, d, k + j * d);
          const float* const values = task.v + (base + j) * task.ldv;
          const std::uint32_t bits = largest_bits(values, d);
          const std::int32_t exponent = value_exponent(bits);
          chunk.exponents[j] = bits >= kTooLargeBits ? NAN : static_cast<float>(exponent);
          chunk.weights[j] = power_of_two(-exponent);
          for (std::int64_t c = 0; c < d; ++c) v[j * d + c] = rounded(values[c] * power_of_two(kind.value_bits - exponent), kind.value_limit);
        }
        add_chunk(kind, task, i, head, chunk, q, of_query, row);
      }
      for (std::int64_t c = 0; c < d; ++c) task.y[i * task.ldy + head * d + c] = row.y[c] * (1.0f / row.sum);
    }
}

}  // namespace
}  // namespace aerogel
