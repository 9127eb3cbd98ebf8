// The reference: rows become floats, in scratch, and then it is attention. Scratch: keys, values, and that of attention.
#include "base/f16.h"
#include "ops/ops.h"

namespace aerogel {

void attention_scalar(const AttentionTask& task);

namespace {

void widen_rows(const CachedAttentionTask& cached, const KeptPlace& place, float* out) {
  const std::int64_t d = cached.task.d, row_bytes = kept_row_bytes(cached.numbers, d);
  for (std::int64_t j = 0; j < cached.task.keys; ++j, out += d) {
    const std::uint8_t* const block = cached.blocks[(cached.first + j) / kKeptTokens];
    const std::int64_t row = (cached.first + j) % kKeptTokens;
    const std::uint8_t* const from = block + place.at + row * row_bytes;
    for (std::int64_t c = 0; c < d; ++c) {
      if (cached.numbers == Kept::float32) out[c] = reinterpret_cast<const float*>(from)[c];
      else if (cached.numbers == Kept::float16) out[c] = f16_to_float(reinterpret_cast<const std::uint16_t*>(from)[c]);
      else out[c] = static_cast<float>(reinterpret_cast<const std::int8_t*>(from)[c]) * reinterpret_cast<const float*>(block + place.scales)[row];
    }
  }
}

}  // namespace

void cached_attention_scalar(const CachedAttentionTask& cached) {
  AttentionTask task = cached.task;
  float* const keys = static_cast<float*>(task.scratch);
  float* const values = keys + task.keys * task.d;
  widen_rows(cached, cached.keys, keys);
  widen_rows(cached, cached.values, values);
  task.k = keys;
  task.v = values;
  task.ldk = task.ldv = task.d;
  task.scratch = values + task.keys * task.d;
  attention_scalar(task);
}

}  // namespace aerogel
