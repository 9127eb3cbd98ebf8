#include "runtime/rotary.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "base/aligned.h"
#include "base/error.h"

namespace aerogel {
namespace {

void expect_finite(const std::vector<float>& frequencies) {
  for (std::size_t i = 0; i < frequencies.size(); ++i)
    if (!std::isfinite(frequencies[i])) throw DataError("rotary: frequency " + std::to_string(i) + " is not finite");
}

}  // namespace

Rotary::Table::~Table() {
  for (std::int64_t i = 0; i < count; ++i) std::free(blocks[i].load());
}

void Rotary::Table::allow(std::int64_t positions) {
  count = (positions + kBlock - 1) / kBlock;
  blocks = std::make_unique<std::atomic<float*>[]>(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) blocks[i].store(nullptr, std::memory_order_relaxed);
}

Rotary::Rotary(std::vector<float> frequencies, std::int64_t positions, float scale, std::optional<Beyond> beyond)
    : positions_(positions),
      scale_(scale),
      after_(beyond ? beyond->after : kNever),
      growth_(beyond ? beyond->growth : Growth{0, 0}),
      near_(std::move(frequencies)),
      far_(beyond ? std::move(beyond->frequencies) : std::vector<float>()),
      pairs_(static_cast<std::int64_t>(near_.frequencies.size())) {
  if (pairs_ < 1) throw ShapeError("rotary: expected at least one frequency, got none");
  if (positions < 1 || positions > std::numeric_limits<std::int32_t>::max())
    throw ShapeError("rotary: expected 1 to 2147483647 positions, got " + std::to_string(positions));
  if (after_ < 1) throw ShapeError("rotary: expected a switch after at least one position, got " + std::to_string(after_));
  if (!std::isfinite(scale)) throw DataError("rotary: the scale is not finite");
  expect_finite(near_.frequencies);
  expect_finite(far_.frequencies);
  near_.allow(std::min(positions, after_));
  if (!beyond) return;
  if (!far_.frequencies.empty()) {
    if (far_.frequencies.size() != near_.frequencies.size())
      throw ShapeError("rotary: expected " + std::to_string(pairs_) + " frequencies of long sequences, got " +
                       std::to_string(far_.frequencies.size()));
    far_.allow(positions);
  } else if (!(pairs_ > 1 && std::isfinite(growth_.theta) && growth_.theta > 0 && std::isfinite(growth_.factor) && growth_.factor >= 1)) {
    throw DataError("rotary: expected two pairs or more, a positive theta and a factor of at least 1 for frequencies that follow the length");
  }
}

void Rotary::grow(std::int64_t length) const {
  // A batch with a longer sequence has shorter ones beside it.
  make(near_, std::min(length, after_));
  if (!is_uniform(length) && !far_.frequencies.empty()) make(far_, length);
  // The blocks serve as far as they go, but not from one table into the other.
  std::int64_t served = round_up(length, kBlock);
  if (is_uniform(length)) served = std::min(served, after_);
  std::int64_t ready = ready_.load(std::memory_order_acquire);
  while (ready < served && !ready_.compare_exchange_weak(ready, served, std::memory_order_acq_rel)) {
  }
}

void Rotary::make(Table& table, std::int64_t positions) const {
  const std::int64_t wanted = std::min((positions + kBlock - 1) / kBlock, table.count);
  for (std::int64_t i = 0; i < wanted; ++i) {
    if (table.blocks[i].load(std::memory_order_acquire) != nullptr) continue;
    const std::size_t bytes = round_up(static_cast<std::size_t>(2 * kBlock * pairs_) * sizeof(float), kCacheLine);
    auto* const block = static_cast<float*>(std::aligned_alloc(kCacheLine, bytes));
    if (block == nullptr) throw std::bad_alloc();
    for (std::int64_t row = 0; row < kBlock; ++row)
      turn(i * kBlock + row, table.frequencies.data(), block + row * pairs_, block + (kBlock + row) * pairs_);
    float* expected = nullptr;
    if (!table.blocks[i].compare_exchange_strong(expected, block, std::memory_order_acq_rel)) std::free(block);
  }
}

std::int64_t Rotary::count_made(const Table& table) const {
  std::int64_t made = 0;
  for (std::int64_t i = 0; i < table.count; ++i) made += table.blocks[i].load(std::memory_order_acquire) != nullptr;
  return made;
}

std::size_t Rotary::table_bytes() const {
  return static_cast<std::size_t>((count_made(near_) + count_made(far_)) * 2 * kBlock * pairs_) * sizeof(float);
}

void Rotary::frequencies(std::int64_t length, float* to) const {
  const std::vector<float>& table = is_uniform(length) ? near_.frequencies : far_.frequencies;
  if (!table.empty()) {
    std::copy(table.begin(), table.end(), to);
    return;
  }
  // Step by step in float, as the training frameworks do; the powers in double, so that they are the same everywhere.
  const auto power = [](float base, float exponent) {
    return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  };
  const auto [theta, factor] = growth_;
  const auto d = static_cast<float>(2 * pairs_);
  const float stretch = factor * static_cast<float>(length) / static_cast<float>(after_) - (factor - 1.0f);
  const float base = theta * power(stretch, static_cast<float>(static_cast<double>(d) / (d - 2)));
  for (std::int64_t i = 0; i < pairs_; ++i) to[i] = 1.0f / power(base, static_cast<float>(2 * i) / d);
}

void Rotary::turn(std::int64_t position, const float* frequencies, float* cos, float* sin) const {
  for (std::int64_t i = 0; i < pairs_; ++i) {
    // The angle is rounded to float, as the training frameworks do. Its cosine and sine come from double: after rounding
    // they do not depend on whose they are.
    const double angle = static_cast<float>(position) * frequencies[i];
    cos[i] = static_cast<float>(std::cos(angle)) * scale_;
    sin[i] = static_cast<float>(std::sin(angle)) * scale_;
  }
}

}  // namespace aerogel
