#include "runtime/ops/short_conv.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

// Rows that are run at once: few enough for their products to stay in L2.
constexpr std::int64_t kBlock = 16;

Value third(const Program& program, const std::string& name, int x) {
  const Value& in = program.value(name, x);
  expect(in.width % 3 == 0, name, "three parts of one width", std::to_string(in.width) + " columns");
  expect(in.rows == Rows::tokens, name, "a value with a row per token", "one with a row per sequence");
  return {in.width / 3, in.rows};
}

// ---- what slots hold: a row of products a token, exact

void remember(KvSequence& cache, const Ops& ops, int layer, std::int64_t position, std::int64_t rows, std::int64_t width, const float* v) {
  const KvLayout::Layer& l = cache.layer(layer);
  ops.keep_rows({v, width, rows, 1, width, l.numbers, cache.blocks(), position, l.keys});
}

void recall(const KvSequence& cache, int layer, std::int64_t position, std::int64_t width, float* v) {
  std::memcpy(v, cache.key(layer, 0, position), static_cast<std::size_t>(width) * sizeof(float));
}

}  // namespace

ShortConv::ShortConv(const Program& program, const std::string& name, int x, std::int64_t taps, Floats kernel, Floats bias)
    : Op("short_conv", name, {x}, third(program, name, x)),
      taps_(taps),
      kernel_(std::move(kernel)),
      bias_(std::move(bias)),
      layer_(static_cast<int>(program.kv_caches().size())) {
  expect(taps >= 1, name + " kernel", "at least one tap", std::to_string(taps));
  expect_length(kernel_, taps * result().width, name + " kernel");
  if (bias_ != nullptr) expect_length(bias_, result().width, name + " bias");
}

std::optional<KvShape> ShortConv::kv_cache() const { return KvShape{1, result().width, true, false}; }

std::size_t ShortConv::scratch_bytes(const Extent& extent) const {
  // A row of the result, where nobody reads floats, and the products of a block and of what is before it.
  const std::int64_t rows = taps_ - 1 + std::min(kBlock, extent.tokens);
  return static_cast<std::size_t>(round_up<std::int64_t>(result().width, 64) + rows * result().width) * sizeof(float);
}

void ShortConv::product(const Work& work, std::int64_t s, std::int64_t row, float* v) const {
  const Frame& frame = work.frame;
  const std::int64_t width = result().width;
  if (row >= frame.begin(s)) {
    const float* b = work.x() + row * 3 * width;
    for (std::int64_t k = 0; k < width; ++k) v[k] = b[k] * b[2 * width + k];
    return;
  }
  const KvSequence* cache = frame.caches.empty() ? nullptr : frame.caches[frame.first_sequence + s];
  const std::int64_t position = row - frame.begin(s) + (cache == nullptr ? 0 : cache->length());
  if (position < 0)
    std::memset(v, 0, static_cast<std::size_t>(width) * sizeof(float));
  else
    recall(*cache, layer_, position, width, v);
}

void ShortConv::convolve(const Work& work, std::int64_t s, std::int64_t begin, std::int64_t end, int thread) const {
  const Frame& frame = work.frame;
  const std::int64_t width = result().width, before = taps_ - 1;
  float* const v = reinterpret_cast<float*>(work.scratch.of(thread)) + round_up<std::int64_t>(width, 64);
  for (std::int64_t j = 0; j < before; ++j) product(work, s, begin - before + j, v + j * width);
  for (std::int64_t row = begin; row < end; row += kBlock) {
    ShortConvTask task{};
    task.x = work.x() + row * 3 * width;
    task.ldx = 3 * width;
    task.rows = std::min(kBlock, end - row);
    task.width = width;
    task.taps = taps_;
    task.kernel = kernel_->data();
    task.bias = bias_ == nullptr ? nullptr : bias_->data();
    task.v = v;
    work.write(task, row, thread);
    work.ops.short_conv(task);
    if (!frame.caches.empty()) {
      KvSequence& cache = *frame.caches[frame.first_sequence + s];
      remember(cache, work.ops, layer_, cache.length() + row - frame.begin(s), task.rows, width, v + before * width);
    }
    std::memmove(v, v + task.rows * width, static_cast<std::size_t>(before * width) * sizeof(float));
  }
}

void ShortConv::run(const Work& work) const {
  work.over_rows(work.rows(), 3 * result().width, [&](std::int64_t begin, std::int64_t count, int thread) {
    const std::int64_t end = begin + count;
    for (std::int64_t s = 0; begin < end; ++s) {
      const std::int64_t stop = std::min(end, work.frame.begin(s + 1));
      if (stop <= begin) continue;
      convolve(work, s, begin, stop, thread);
      begin = stop;
    }
  });
}

}  // namespace aerogel
