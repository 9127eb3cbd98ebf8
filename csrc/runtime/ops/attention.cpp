#include "runtime/ops/attention.h"

#include <algorithm>
#include <cmath>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

// Attention below this many multiplications (some 5 microseconds) is not worth a hand-off.
constexpr std::int64_t kSerialAttention = 60'000;
constexpr std::int64_t kQueryBlock = 128;
constexpr std::int64_t kSharedQueries = 5;
constexpr std::int64_t kAll = INT64_C(1) << 40;  // more keys than there will be

}  // namespace

Attention::Attention(const Program& program, const std::string& name, int x, std::int64_t heads, std::int64_t kv_heads,
                     std::int64_t head_dim, bool causal, float scale, AttentionOptions options)
    : Op("attention", name, {x}, {heads * head_dim, program.value(name, x).rows}),
      heads_(heads),
      kv_heads_(kv_heads),
      head_dim_(head_dim),
      causal_(causal),
      scale_(scale),
      options_(std::move(options)),
      layer_(static_cast<int>(program.kv_caches().size())) {
  const Value& in = program.value(name, x);
  expect(heads >= 1 && kv_heads >= 1 && heads % kv_heads == 0, name, "a number of heads that kv_heads divides",
         std::to_string(heads) + " and " + std::to_string(kv_heads));
  expect(head_dim >= 1 && head_dim <= 256, name, "a head size of 1 to 256", std::to_string(head_dim));
  expect(in.width == (heads + 2 * kv_heads) * head_dim, name, std::to_string((heads + 2 * kv_heads) * head_dim) + " columns of q, k and v",
         std::to_string(in.width));
  expect(in.rows == Rows::tokens, name, "a value with a row per token", "one with a row per sequence");
  if (options_.window) {
    expect(*options_.window >= 0, name + " window", "a distance", std::to_string(*options_.window));
    options_.window = std::min(*options_.window, kAll);
  }
  expect(options_.softcap >= 0.0f && options_.softcap < INFINITY, name + " softcap", "a positive number, or 0 for none",
         std::to_string(options_.softcap));
  if (options_.bias != nullptr) {
    const std::int64_t size = static_cast<std::int64_t>(options_.bias->size());
    reach_ = (size / heads - 1) / 2;
    expect(size == heads * (2 * reach_ + 1), name + " bias", "an odd number of distances for each of " + std::to_string(heads) + " heads",
           std::to_string(size) + " elements");
  }
  if (options_.slopes != nullptr) expect_length(options_.slopes, heads, name + " slopes");
}

std::optional<KvShape> Attention::kv_cache() const {
  return causal_ ? std::optional<KvShape>({kv_heads_, head_dim_}) : std::nullopt;
}

std::pair<std::int64_t, std::int64_t> Attention::seen(std::int64_t begin, std::int64_t end, std::int64_t keys) const {
  const std::int64_t window = options_.window ? std::min(*options_.window, keys) : keys;
  return {std::max<std::int64_t>(0, begin - window), std::min(keys, causal_ ? end : end + window)};
}

std::size_t Attention::scratch_bytes(const Extent& extent) const {
  const std::int64_t queries = std::min(extent.longest, kQueryBlock);
  // The most keys that queries in the middle see.
  const std::int64_t window = options_.window ? std::min(*options_.window, extent.keys) : extent.keys;
  const std::int64_t keys = std::min(extent.keys, queries + 2 * window);
  const bool windowed = options_.window.has_value();
  return std::max(attention_scratch_bytes(queries, keys, head_dim_, windowed), attention_codes_scratch_bytes(queries, keys, head_dim_, windowed));
}

void Attention::run(const Work& work) const {
  const Frame& frame = work.frame;
  const Crew& crew = work.crew;
  const std::int64_t d = head_dim_, group = heads_ / kv_heads_;
  const std::int64_t q_width = heads_ * d, kv_width = kv_heads_ * d, ld = q_width + 2 * kv_width;
  const float* const qkv = work.x();
  float* const y = work.y();
  const bool cached = !frame.caches.empty() && causal_;

  const std::int64_t most_keys = options_.window ? 2 * *options_.window + 1 : kAll;  // that a query sees
  std::int64_t blocks = 0, multiplications = 0;  // query blocks of all sequences
  for (std::int64_t s = 0; s < frame.sequences; ++s) {
    const std::int64_t begin = frame.begin(s), length = frame.begin(s + 1) - begin;
    blocks += (length + kQueryBlock - 1) / kQueryBlock;
    std::int64_t keys = length;
    if (cached) {
      const KvSequence& cache = *frame.caches[frame.first_sequence + s];
      const KvLayout::Layer& layer = cache.layer(layer_);
      keys += cache.length();
      KeepTask keep{qkv + begin * ld + q_width, ld, length, kv_heads_, d, layer.numbers, cache.blocks(), cache.length(), layer.keys};
      work.ops.keep_rows(keep);
      keep.x += kv_width;
      keep.place = layer.values;
      work.ops.keep_rows(keep);
    }
    multiplications += length * std::min(keys, most_keys) * q_width * 2;
  }

  // A part is a head of a query block. Where so few queries are that reading the keys is what takes time, the query heads
  // that share them go together, as the part of the first one.
  const auto run_part = [&](std::int64_t part, int thread) {
    const std::int64_t head = part % heads_;
    std::int64_t block = part / heads_, s = 0, begin = 0, length = 0;
    for (;; ++s) {
      begin = frame.begin(s);
      length = frame.begin(s + 1) - begin;
      const std::int64_t here = (length + kQueryBlock - 1) / kQueryBlock;
      if (block < here) break;
      block -= here;
    }
    // Blocks alike, so that none is small: few queries add up in another order, and what a row is must not depend on how prompts are cut.
    const std::int64_t here = (length + kQueryBlock - 1) / kQueryBlock, size = (length + here - 1) / here;
    const std::int64_t first = block * size, queries = std::min(size, length - first), kv_head = head / group;
    const bool shared = queries < kSharedQueries;
    if (shared && head % group != 0) return;
    CachedAttentionTask of_cache{};
    AttentionTask& task = of_cache.task;
    task.q = qkv + (begin + first) * ld + head * d;
    task.ldq = ld;
    const KvSequence* cache = cached ? frame.caches[frame.first_sequence + s] : nullptr;
    const std::int64_t held = cached ? cache->length() : 0;
    // Keys that none of the queries sees do not exist for the kernel.
    const std::pair<std::int64_t, std::int64_t> keys = seen(held + first, held + first + queries, held + length);
    const std::int64_t low = keys.first;
    // This thread's next head, if the threads take turns.
    const std::int64_t next = (head + crew.size()) / group;
    const bool goes_on = next < kv_heads_ && next != kv_head;
    if (cached) {
      const KvLayout::Layer& layer = cache->layer(layer_);
      of_cache.numbers = layer.numbers;
      of_cache.blocks = cache->blocks();
      of_cache.first = low;
      of_cache.keys = layer.of_head(layer.keys, kv_head);
      of_cache.values = layer.of_head(layer.values, kv_head);
      of_cache.next_keys = goes_on ? layer.of_head(layer.keys, next).at : -1;
    } else {
      const auto keys_of = [&](std::int64_t h) { return qkv + (begin + low) * ld + q_width + h * d; };
      task.ldk = task.ldv = ld;
      task.k = keys_of(kv_head);
      task.v = task.k + kv_width;
      task.next_k = goes_on ? keys_of(next) : nullptr;
    }
    task.queries = queries;
    task.keys = keys.second - low;
    task.d = d;
    task.heads = shared ? group : 1;
    task.causal = causal_;
    task.position = held + first - low;
    task.scale = scale_;
    task.window = options_.window ? *options_.window : -1;
    task.softcap = options_.softcap;
    task.reach = reach_;
    task.bias = options_.bias == nullptr ? nullptr : options_.bias->data() + head * (2 * reach_ + 1);
    task.slopes = options_.slopes == nullptr ? nullptr : options_.slopes->data() + head;
    task.y = y + (begin + first) * q_width + head * d;
    task.ldy = q_width;
    task.scratch = work.scratch.of(thread);
    cached ? work.ops.cached_attention(of_cache) : work.ops.attention(task);
  };
  const std::int64_t parts = blocks * heads_;
  if (multiplications < kSerialAttention) {
    for (std::int64_t part = 0; part < parts; ++part) run_part(part, crew.thread);
    return;
  }
  crew.run(parts, [&](std::int64_t part, int thread) noexcept { run_part(part, thread); });
}

}  // namespace aerogel
