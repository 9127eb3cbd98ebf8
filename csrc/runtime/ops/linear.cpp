#include "runtime/ops/linear.h"

#include <algorithm>
#include <cmath>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

Value shape_of(const Value& in, const PackedLinear& weight, const std::string& name) {
  if (weight.empty()) throw ShapeError(name + ": no weight given");
  return {weight.n(), in.rows};
}

// What a linear with two terms works in, for a block of tokens:
//
//     codes [2 block, codes_ld(k)] int8 | scales [2 block] | rest [block, k] | sums [2 block, n]       (float)
//
// First all tokens' first terms, then all second ones. Blocks keep the sums of a wide layer small.
struct TermsLayout {
  std::int64_t block, codes, scales, rest, sums;  // bytes, but block

  explicit TermsLayout(const PackedLinear& weight) {
    const std::int64_t n = weight.n(), k = weight.k();
    constexpr std::int64_t kSums = 4 << 20;
    block = std::clamp<std::int64_t>(kSums / n / 2, 8, 256);
    codes = round_up<std::int64_t>(2 * block * codes_ld(k), kCacheLine);
    scales = round_up<std::int64_t>(2 * block * 4, kCacheLine);
    rest = round_up<std::int64_t>(block * k * 4, kCacheLine);
    sums = round_up<std::int64_t>(2 * block * n * 4, kCacheLine);
  }
  std::size_t bytes() const { return static_cast<std::size_t>(codes + scales + rest + sums); }
};

}  // namespace

Linear::Linear(const Program& program, const std::string& name, int x, PackedLinear weight, Floats bias, int terms, float limit)
    : Op("linear", name, {x}, shape_of(program.value(name, x), weight, name)),
      weight_(std::move(weight)),
      bias_(std::move(bias)),
      terms_(weight_.quantized_x() ? terms : 1),
      limit_(weight_.quantized_x() ? limit : 0) {
  const std::int64_t n = weight_.n(), k = weight_.k(), width = program.value(name, x).width;
  expect(k == width, name, shape_text(n, width), shape_text(n, k));
  if (bias_ != nullptr) expect_length(bias_, n, name + ".bias");
  if (terms != 1 && terms != 2) throw ShapeError(name + ": expected 1 or 2 terms, got " + std::to_string(terms));
  if (limit != 0 && !(limit > 0 && std::isfinite(limit) && std::isfinite(127.0f / limit)))
    throw DataError(name + ": input limit: expected a positive number of ordinary size, got " + std::to_string(limit));
  if (limit != 0 && terms != 1) throw Error(name + ": an input limit and " + std::to_string(terms) + " terms exclude each other");
}

// One that splits its input in terms makes the codes itself.
std::optional<float> Linear::reads_codes() const {
  return weight_.quantized_x() && terms_ == 1 ? std::optional<float>(limit_) : std::nullopt;
}

std::size_t Linear::workspace_bytes() const { return terms_ == 2 ? TermsLayout(weight_).bytes() : 0; }

void Linear::run(const Work& work) const {
  if (terms_ == 2) return run_terms(work);
  const std::int64_t k = weight_.k();
  const float* const bias = bias_ == nullptr ? nullptr : bias_->data();
  if (work.step.x_codes >= 0)
    run_linear(weight_, work.x_codes() + work.first * codes_ld(k), work.x_scales(k) + work.first, codes_ld(k), work.window(), bias,
               work.y() + work.first * weight_.n(), work.crew, work.scratch);
  else
    run_linear(weight_, work.x(), nullptr, k, work.rows(), bias, work.y(), work.crew, work.scratch);
}

void Linear::run_terms(const Work& work) const {
  const Ops& ops = work.ops;
  const std::int64_t n = weight_.n(), k = weight_.k(), ld = codes_ld(k), rows = work.rows();
  const float* const x = work.x();
  float* const y = work.y();
  const TermsLayout layout(weight_);
  std::uint8_t* const memory = work.workspace;
  auto* const codes = reinterpret_cast<std::int8_t*>(memory);
  auto* const scales = reinterpret_cast<float*>(memory + layout.codes);
  auto* const rest = reinterpret_cast<float*>(memory + layout.codes + layout.scales);
  auto* const sums = reinterpret_cast<float*>(memory + layout.codes + layout.scales + layout.rest);
  for (std::int64_t first = 0; first < rows; first += layout.block) {
    const std::int64_t count = std::min(layout.block, rows - first);
    work.over_rows(count, 2 * k, [&](std::int64_t begin, std::int64_t part, int) {
      ops.quantize({x + (first + begin) * k, k, part, k, codes + begin * ld, ld, scales + begin});
      for (std::int64_t t = begin; t < begin + part; ++t)
        for (std::int64_t i = 0; i < k; ++i)
          rest[t * k + i] = x[(first + t) * k + i] - static_cast<float>(codes[t * ld + i]) * scales[t];
      ops.quantize({rest + begin * k, k, part, k, codes + (count + begin) * ld, ld, scales + count + begin});
    });
    run_linear(weight_, codes, scales, ld, 2 * count, nullptr, sums, work.crew, work.scratch);
    work.over_rows(count, n, [&](std::int64_t begin, std::int64_t part, int) {
      float* const out = y + (first + begin) * n;
      ops.add({sums + begin * n, sums + (count + begin) * n, out, part * n});
      if (bias_ != nullptr)
        for (std::int64_t t = 0; t < part; ++t) ops.add({out + t * n, bias_->data(), out + t * n, n});
    });
  }
}

}  // namespace aerogel
