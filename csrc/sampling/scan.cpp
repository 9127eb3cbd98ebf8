#include "sampling/scan.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace aerogel {
namespace {

constexpr std::int64_t kLanes = 16;
constexpr float kNone = -std::numeric_limits<float>::infinity();

float largest_of(const float* lanes) {
  float found = kNone;
  for (std::int64_t j = 0; j < kLanes; ++j) found = lanes[j] > found ? lanes[j] : found;
  return found;
}

}  // namespace

float largest(const float* x, std::int64_t n) {
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, kNone);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return largest_of(lanes);
}

std::uint64_t sum(const std::int32_t* weights, std::int64_t n) {
  std::uint64_t total = 0;
  for (std::int64_t i = 0; i < n; ++i) total += static_cast<std::uint32_t>(weights[i]);
  return total;
}

std::int64_t find(const float* x, std::int64_t n, float value) { return std::find(x, x + n, value) - x; }

// What may be among the k largest is kept; where too much of that has come together, the k largest of it are found, and from there on
// only larger ones are kept. Blocks without any are passed over by their maximum.
float kth_largest(const float* x, std::int64_t n, std::int64_t k, std::vector<float>& kept) {
  kept.clear();
  const std::int64_t room = std::max<std::int64_t>(2 * k, k + 256);
  float least = kNone;
  const auto narrow = [&] {
    std::nth_element(kept.begin(), kept.begin() + (k - 1), kept.end(), std::greater<float>());
    kept.resize(static_cast<std::size_t>(k));
    least = kept[static_cast<std::size_t>(k - 1)];
  };
  for (std::int64_t begin = 0; begin < n; begin += 256) {
    const std::int64_t end = std::min(n, begin + 256);
    if (!(largest(x + begin, end - begin) > least)) continue;
    for (std::int64_t i = begin; i < end; ++i)
      if (x[i] > least) kept.push_back(x[i]);
    if (static_cast<std::int64_t>(kept.size()) >= room) narrow();
  }
  if (static_cast<std::int64_t>(kept.size()) < k) return kNone;
  narrow();
  return least;
}

}  // namespace aerogel
