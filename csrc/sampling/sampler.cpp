#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "sampling/random.h"
#include "sampling/scan.h"

namespace aerogel {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kStep = 512;  // logits that are looked at together
constexpr std::size_t kBlock = kStep;

void rule_out(float* logits, std::int64_t n, const std::uint32_t* allowed) {
  for (std::int64_t begin = 0; begin < n; begin += 32) {
    const std::uint32_t word = allowed[begin / 32];
    if (word == ~std::uint32_t{0}) continue;
    const std::int64_t end = std::min<std::int64_t>(n, begin + 32);
    for (std::int64_t i = begin; i < end; ++i)
      if ((word >> (i - begin) & 1) == 0) logits[i] = kNone;
  }
}

}  // namespace

void Sampler::see(std::int32_t token, bool written) {
  std::int64_t& times = seen_.try_emplace(token, 0).first->second;
  if (!written) return;
  ++times;
  ++written_;
}

void Sampler::adjust(float* logits, std::int64_t n, const std::vector<std::int32_t>& banned, const std::uint32_t* allowed) const {
  for (const auto& [id, value] : options_.bias) {
    if (id < 0 || id >= n) throw DataError("logit_bias: expected tokens below " + std::to_string(n) + ", got " + std::to_string(id));
    logits[id] += value;
  }
  const auto penalty = static_cast<float>(options_.repetition);
  if (penalty != 1 || options_.presence != 0 || options_.frequency != 0)
    for (const auto& [id, times] : seen_) {
      if (id < 0 || id >= n) continue;
      float& x = logits[id];
      x = x < 0 ? x * penalty : x / penalty;
      if (times != 0) x -= static_cast<float>(options_.presence + options_.frequency * static_cast<double>(times));
    }
  for (const std::int32_t id : banned)
    if (id >= 0 && id < n) logits[id] = kNone;
  if (allowed != nullptr) rule_out(logits, n, allowed);
}

std::int32_t Sampler::choose(const float* logits, std::int64_t n) {
  const float most = largest(logits, n);
  if (most == kNone) throw DataError("there is no token to go on with: all are ruled out");
  if (options_.temperature == 0 || std::isinf(most)) return static_cast<std::int32_t>(find(logits, n, most));
  gather(logits, n, most);
  const std::size_t m = weights_.size();
  if (options_.top_p < 1) {
    keys_.resize(m);
    for (std::size_t i = 0; i < m; ++i) keys_[i] = -distances_[i];
    keep_mass(options_.top_p);
  }
  if (options_.min_p > 0) {
    const auto least = static_cast<std::int32_t>(std::min(options_.min_p, 1.0) * kOne);
    for (std::int32_t& weight : weights_) weight = weight < least ? 0 : weight;
  }
  if (options_.typical_p < 1) {
    // -log p - entropy is the mean of the distances, less the distance: the logarithm of the total is in both.
    double mean = 0;
    for (std::size_t i = 0; i < m; ++i) mean += weights_[i] == 0 ? 0 : static_cast<double>(weights_[i]) * static_cast<double>(distances_[i]);
    mean /= static_cast<double>(sum(weights_.data(), static_cast<std::int64_t>(m)));
    keys_.resize(m);
    for (std::size_t i = 0; i < m; ++i) keys_[i] = std::fabs(static_cast<float>(mean) - distances_[i]);
    keep_mass(options_.typical_p);
  }
  const std::uint64_t total = sum(weights_.data(), static_cast<std::int64_t>(m));
  const double place = uniform(options_.seed, written_) * static_cast<double>(total);
  std::uint64_t left = std::min(static_cast<std::uint64_t>(place), total - 1);
  // Blocks first: few tokens are looked at alone.
  std::size_t i = 0;
  for (; i < m; i += kBlock) {
    const std::uint64_t block = sum(weights_.data() + i, static_cast<std::int64_t>(std::min<std::size_t>(kBlock, m - i)));
    if (left < block) break;
    left -= block;
  }
  for (; left >= static_cast<std::uint32_t>(weights_[i]); ++i) left -= static_cast<std::uint32_t>(weights_[i]);
  return ids_.empty() ? static_cast<std::int32_t>(i) : ids_[i];
}

// What top_k leaves.
void Sampler::gather(const float* logits, std::int64_t n, float most) {
  const auto scale = static_cast<float>(std::max(options_.temperature, 1e-30));
  ids_.clear();
  if (options_.top_k > 0 && options_.top_k < n) {
    const float least = kth_largest(logits, n, options_.top_k, keys_);
    for (std::int64_t begin = 0; begin < n; begin += kStep) {
      const std::int64_t end = std::min(n, begin + kStep);
      if (!(largest(logits + begin, end - begin) >= least)) continue;
      for (std::int64_t i = begin; i < end; ++i)
        if (logits[i] >= least) ids_.push_back(static_cast<std::int32_t>(i));
    }
  }
  const std::size_t m = ids_.empty() ? static_cast<std::size_t>(n) : ids_.size();
  distances_.resize(m);
  weights_.resize(m);
  float* const distances = distances_.data();
  std::int32_t* const weights = weights_.data();
  if (ids_.empty())
    for (std::size_t i = 0; i < m; ++i) distances[i] = (logits[i] - most) / scale;
  else
    for (std::size_t i = 0; i < m; ++i) distances[i] = (logits[ids_[i]] - most) / scale;
  for (std::size_t i = 0; i < m; ++i) weights[i] = weight_of(distances[i]);
}

// Keeps those with the least keys until they have `part` of the weight, at least one. Keys are spread over bins by their size, so that
// only those of the bin are sorted in which the weight is reached.
void Sampler::keep_mass(double part) {
  constexpr std::size_t kBins = 4096;
  constexpr float kScale = 128.0f, kMost = 31.99f;  // a power of two: bins are exact. A weight that is not 0 has a distance above -22
  std::vector<std::uint64_t> bins(kBins, 0);
  const std::size_t m = weights_.size();
  std::uint32_t places[kBlock];
  for (std::size_t begin = 0; begin < m; begin += kBlock) {
    const std::size_t count = std::min(kBlock, m - begin);
    const float* const keys = keys_.data() + begin;
    for (std::size_t i = 0; i < count; ++i) places[i] = static_cast<std::uint32_t>(static_cast<std::int32_t>((keys[i] < kMost ? keys[i] : kMost) * kScale));
    for (std::size_t i = 0; i < count; ++i) bins[places[i]] += static_cast<std::uint32_t>(weights_[begin + i]);
  }
  std::uint64_t total = 0, held = 0;
  for (const std::uint64_t weight : bins) total += weight;
  const double needed = part * static_cast<double>(total);
  std::size_t bin = 0;
  while (bin + 1 < kBins && static_cast<double>(held + bins[bin]) < needed) held += bins[bin++];
  const float least = static_cast<float>(bin) / kScale, most = static_cast<float>(bin + 1) / kScale;
  std::vector<std::pair<float, std::size_t>> last;
  for (std::size_t i = 0; i < m; ++i)
    if (keys_[i] >= least && keys_[i] < most && weights_[i] != 0) last.emplace_back(keys_[i], i);
  if (last.empty()) return;  // rounding: all are needed
  std::sort(last.begin(), last.end());
  std::size_t at = 0;
  for (; at + 1 < last.size(); ++at) {
    held += static_cast<std::uint32_t>(weights_[last[at].second]);
    if (static_cast<double>(held) >= needed) break;
  }
  const float key = last[at].first;
  const float* const keys = keys_.data();
  std::int32_t* const weights = weights_.data();
  for (std::size_t i = 0; i < m; ++i) weights[i] = keys[i] > key ? 0 : weights[i];
  for (std::size_t i = at + 1; i < last.size() && last[i].first == key; ++i) weights[last[i].second] = 0;
}

LogProbabilities log_probabilities(const float* logits, std::int64_t n, const std::vector<std::int32_t>& tokens, std::int64_t top) {
  const float most = largest(logits, n);
  if (std::isinf(most)) throw DataError("log probabilities: expected finite logits");
  double total = 0;
  float weights[kStep];
  for (std::int64_t begin = 0; begin < n; begin += kStep) {
    const std::int64_t count = std::min(n - begin, kStep);
    for (std::int64_t i = 0; i < count; ++i) weights[i] = exp_below_0(logits[begin + i] - most);
    for (std::int64_t i = 0; i < count; ++i) total += static_cast<double>(weights[i]);
  }
  const double shift = static_cast<double>(most) + std::log(total);
  const auto of = [&](std::int64_t id) { return static_cast<float>(static_cast<double>(logits[id]) - shift); };
  LogProbabilities found;
  for (const std::int32_t id : tokens) {
    if (id < 0 || id >= n) throw DataError("tokens: expected ids below " + std::to_string(n) + ", got " + std::to_string(id));
    found.of.push_back(of(id));
  }
  top = std::min(top, n);
  if (top <= 0) return found;
  std::vector<float> values;
  const float least = kth_largest(logits, n, top, values);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < n; ++i)
    if (logits[i] >= least) ids.push_back(static_cast<std::int32_t>(i));
  std::stable_sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) { return logits[a] > logits[b]; });
  ids.resize(static_cast<std::size_t>(std::min<std::int64_t>(top, static_cast<std::int64_t>(ids.size()))));
  for (const std::int32_t id : ids) found.top.emplace_back(id, of(id));
  return found;
}

}  // namespace aerogel
