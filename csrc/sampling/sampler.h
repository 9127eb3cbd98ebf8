// The choice of the next token from logits.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace aerogel {

struct SamplerOptions {
  double temperature = 0;                                // divides the logits; 0: the likeliest token
  std::int64_t top_k = 0;                                // the k likeliest, and those that are as likely as the k-th; 0: all
  double top_p = 1;                                      // the likeliest until their probabilities sum to p
  double min_p = 0;                                      // those at least so likely, as a part of the likeliest
  double typical_p = 1;                                  // those nearest to the entropy until they sum to p (Meister et al., 2022)
  double repetition = 1;                                 // divides the logits of tokens in the text, multiplies them below 0
  double presence = 0;                                   // subtracted from those of tokens that were written
  double frequency = 0;                                  // subtracted once for each time
  std::vector<std::pair<std::int32_t, float>> bias;      // added to a token's
  std::uint64_t seed = 0;
};

// One text's: it is told every token. What is done to logits, in this order: bias, repetition, presence and frequency, tokens that are
// ruled out; then, unless greedy, temperature, top_k, top_p, min_p, typical_p, each on what the ones before have left, as Transformers
// does. Among equals the lowest id comes first.
class Sampler {
 public:
  explicit Sampler(SamplerOptions options) : options_(std::move(options)) {}

  // The text goes on with `token`; `written`: it was chosen, not given.
  void see(std::int32_t token, bool written);
  std::uint64_t written() const { return written_; }

  // Changes logits [n] as above up to what is ruled out: `banned` tokens, and those without their bit in `allowed` [ceil(n / 32)],
  // unless that is null. Throws DataError if a bias is for a token that is not there.
  void adjust(float* logits, std::int64_t n, const std::vector<std::int32_t>& banned, const std::uint32_t* allowed) const;

  // The next token. The random number is that of the seed at the place written(): asked again it is the same.
  // Throws DataError if all are ruled out.
  std::int32_t choose(const float* logits, std::int64_t n);

 private:
  void gather(const float* logits, std::int64_t n, float most);
  void keep_mass(double part);

  SamplerOptions options_;
  std::unordered_map<std::int32_t, std::int64_t> seen_;  // token -> how often it was written
  std::uint64_t written_ = 0;
  // What may be chosen: token ids_[i], or i where ids_ is empty; those with the weight 0 are filtered out.
  std::vector<std::int32_t> ids_, weights_;
  std::vector<float> distances_;  // (logit - largest) / temperature
  std::vector<float> keys_;       // what keep_mass sorts by
};

struct LogProbabilities {
  std::vector<float> of;                              // of the tokens asked for
  std::vector<std::pair<std::int32_t, float>> top;    // the likeliest, best first
};

// Natural logarithms of softmax(logits [n]) at `tokens`, and of the `top` likeliest.
LogProbabilities log_probabilities(const float* logits, std::int64_t n, const std::vector<std::int32_t>& tokens, std::int64_t top);

}  // namespace aerogel
