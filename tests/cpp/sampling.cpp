// The choice of tokens; the distributions are held against NumPy and Transformers by tests/engine/generation/test_sampler.py.
#include "sampling/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "base/error.h"
#include "check.h"
#include "sampling/random.h"
#include "sampling/scan.h"

namespace aerogel {
namespace {

using namespace testing;

// The answers that the authors of Random123 publish.
TEST(sampling_philox_known_answers) {
  const std::uint32_t ones = 0xffffffff;
  struct Row {
    std::array<std::uint32_t, 4> counter;
    std::array<std::uint32_t, 2> key;
    std::array<std::uint32_t, 4> wanted;
  };
  for (const Row& row : {Row{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
                         Row{{ones, ones, ones, ones}, {ones, ones}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}})
    CHECK(philox(row.counter, row.key) == row.wanted, "philox " << philox(row.counter, row.key)[0]);
}

TEST(sampling_exponential) {
  for (float d = 0; d > -59; d -= 0.00737f) {
    const double wanted = std::exp(static_cast<double>(d)), got = static_cast<double>(exp_below_0(d));
    CHECK(std::fabs(got - wanted) <= 3e-7 * wanted, "e^" << d << ": " << got << ", not " << wanted);
  }
  CHECK(weight_of(0) == kOne, weight_of(0));
  CHECK(weight_of(-INFINITY) == 0 && weight_of(NAN) == 0 && weight_of(-1e30f) == 0, "far below");
}

TEST(sampling_kth_largest) {
  std::vector<float> x(5000), kept;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 2654435761u) % 1009);
  std::vector<float> sorted = x;
  std::sort(sorted.begin(), sorted.end(), std::greater<float>());
  for (std::int64_t k : {1, 2, 17, 300, 2500, 4999, 5000}) {
    const float got = kth_largest(x.data(), 5000, k, kept);
    CHECK(got == sorted[static_cast<std::size_t>(k - 1)], k << "-th: " << got);
  }
  CHECK(largest(x.data(), 5000) == 1008 && find(x.data(), 5000, x[77]) <= 77, "largest");
}

// Whatever the logits are, a token is chosen that is not ruled out, or the reason is named.
TEST(sampling_chooses_what_is_allowed) {
  for (const float top : {0.0f, 3e38f, -3e38f, INFINITY})
    for (const double temperature : {0.0, 1e-300, 1.0, 1e300})
      for (const double p : {1e-9, 0.5, 1.0})
        for (std::int64_t k : {0, 1, 3, 1000}) {
          SamplerOptions options;
          options.temperature = temperature;
          options.top_p = options.typical_p = p;
          options.min_p = 1 - p;
          options.top_k = k;
          std::vector<float> logits(1000, -INFINITY);
          for (std::size_t i = 100; i < 900; i += 50) logits[i] = top - static_cast<float>(i % 7);
          logits[400] = NAN;
          Sampler sampler(options);
          const std::uint32_t all = ~std::uint32_t{0};
          std::vector<std::uint32_t> allowed(32, all);
          sampler.adjust(logits.data(), 1000, {100, 150, 5000}, allowed.data());
          const std::int32_t token = sampler.choose(logits.data(), 1000);
          CHECK(token >= 200 && token < 900 && token % 50 == 0 && token != 400, token << " of " << top << ", " << temperature);
        }
  std::vector<float> none(70, -INFINITY);
  bool refused = false;
  try {
    Sampler({}).choose(none.data(), 70);
  } catch (const DataError&) {
    refused = true;
  }
  CHECK(refused, "nothing is left");
}

}  // namespace
}  // namespace aerogel
