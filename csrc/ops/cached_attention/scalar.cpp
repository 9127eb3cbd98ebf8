// The reference: attention, whose rows become floats wherever they are read.
#include "base/f16.h"
#include "ops/attention/scalar.h"

namespace aerogel {
namespace {

float widened(const CachedAttentionTask& cached, const KeptPlace& place, std::int64_t j, std::int64_t c) {
  const std::uint8_t* const block = cached.blocks[(cached.first + j) / kKeptTokens];
  const std::int64_t row = (cached.first + j) % kKeptTokens;
  const std::uint8_t* const from = block + place.at + row * kept_row_bytes(cached.numbers, cached.task.d);
  switch (cached.numbers) {
    case Kept::float32: return reinterpret_cast<const float*>(from)[c];
    case Kept::float16: return f16_to_float(reinterpret_cast<const std::uint16_t*>(from)[c]);
    case Kept::int8: break;
  }
  return static_cast<float>(reinterpret_cast<const std::int8_t*>(from)[c]) * reinterpret_cast<const float*>(block + place.scales)[row];
}

}  // namespace

void cached_attention_scalar(const CachedAttentionTask& cached) {
  attend(cached.task, [&](std::int64_t j, std::int64_t c) { return widened(cached, cached.keys, j, c); },
         [&](std::int64_t j, std::int64_t c) { return widened(cached, cached.values, j, c); });
}

}  // namespace aerogel
