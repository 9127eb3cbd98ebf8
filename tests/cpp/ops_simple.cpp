// add, scale, embed, pools: bit for bit. rope, l2_normalize: within their rounding.
#include "base/bf16.h"
#include "base/f16.h"
#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

TEST(ops_add) {
  Random random(1);
  for (Isa isa : tested_isas())
    for (std::int64_t count : kWidths)
      for (int place = 0; place < 3; ++place) {
        std::vector<float> a = random_floats(random, count + 8), b = random_floats(random, count + 8);
        std::vector<float> y(a.size(), kCanary), sum(a.size());
        for (std::size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
        float* to = place == 0 ? y.data() : place == 1 ? a.data() : b.data();
        const std::vector<float> before(to, to + a.size());
        ops_for(isa).add({a.data(), b.data(), to, count});
        for (std::int64_t i = 0; i < count + 8; ++i)
          CHECK(same_bits(to[i], i < count ? sum[i] : before[i]), "add " << isa_name(isa) << " " << count << " at " << i);
      }
}

TEST(ops_scale) {
  Random random(6);
  for (Isa isa : tested_isas())
    for (std::int64_t count : kWidths)
      for (bool in_place : {false, true}) {
        std::vector<float> x = random_floats(random, count + 8), y(x.size(), kCanary);
        const std::vector<float> before = x;
        std::vector<float>& to = in_place ? x : y;
        ops_for(isa).scale({x.data(), to.data(), count, 0.3f});
        for (std::int64_t i = 0; i < count + 8; ++i)
          CHECK(same_bits(to[i], i < count ? before[i] * 0.3f : in_place ? before[i] : kCanary),
                "scale " << isa_name(isa) << " " << count << " at " << i);
      }
}

TEST(ops_embed) {
  Random random(2);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (bool accumulate : {false, true})
        for (bool q8 : {false, true}) {
          const std::int64_t entries = 6;
          const std::vector<std::int32_t> ids = {5, 0, 3, 3, 1};
          const std::int64_t rows = static_cast<std::int64_t>(ids.size());
          const std::vector<float> table = random_floats(random, entries * width), scale = random_floats(random, entries);
          std::vector<std::int8_t> codes(static_cast<std::size_t>(entries * width));
          for (std::int8_t& c : codes) c = static_cast<std::int8_t>(random.below(255) - 127);
          std::vector<float> y = random_floats(random, rows * width + 8);
          const std::vector<float> before = y;
          const EmbedTask task{ids.data(), rows, width, q8 ? nullptr : table.data(), q8 ? codes.data() : nullptr,
                               q8 ? scale.data() : nullptr, accumulate, y.data()};
          (q8 ? ops_for(isa).embed_q8 : ops_for(isa).embed_f32)(task);
          for (std::int64_t i = 0; i < rows * width + 8; ++i) {
            float wanted = before[i];
            if (i < rows * width) {
              const std::int64_t id = ids[i / width], k = i % width;
              const float value = q8 ? static_cast<float>(codes[id * width + k]) * scale[id] : table[id * width + k];
              wanted = accumulate ? before[i] + value : value;
            }
            CHECK(same_bits(y[i], wanted), "embed " << isa_name(isa) << " q8=" << q8 << " width " << width << " at " << i);
          }
        }
}

TEST(ops_embed_of_16_bits) {
  Random random(4);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (bool accumulate : {false, true})
        for (bool bf16 : {false, true}) {
          const std::int64_t entries = 6;
          const std::vector<std::int32_t> ids = {5, 0, 3, 3, 1};
          const std::int64_t rows = static_cast<std::int64_t>(ids.size());
          std::vector<std::uint16_t> table(static_cast<std::size_t>(entries * width));
          for (std::uint16_t& code : table)
            do code = static_cast<std::uint16_t>(random.below(0x10000));
            while (!(bf16 ? bf16_is_finite(code) : f16_is_finite(code)));
          std::vector<float> y = random_floats(random, rows * width + 8);
          const std::vector<float> before = y;
          const EmbedTask task{ids.data(), rows, width, nullptr, nullptr, nullptr, accumulate, y.data(), table.data()};
          (bf16 ? ops_for(isa).embed_bf16 : ops_for(isa).embed_f16)(task);
          for (std::int64_t i = 0; i < rows * width + 8; ++i) {
            float wanted = before[i];
            if (i < rows * width) {
              const std::uint16_t code = table[static_cast<std::size_t>(ids[i / width] * width + i % width)];
              const float value = bf16 ? bf16_to_float(code) : f16_to_float(code);
              wanted = accumulate ? before[i] + value : value;
            }
            CHECK(same_bits(y[i], wanted), "embed " << isa_name(isa) << " bf16=" << bf16 << " width " << width << " at " << i);
          }
        }
}

TEST(ops_rope) {
  Random random(3);
  for (Isa isa : tested_isas())
    for (const auto& [d, pairs] : std::vector<std::pair<std::int64_t, std::int64_t>>{{2, 1}, {4, 2}, {10, 5}, {16, 8}, {18, 9}, {32, 16}, {64, 32},
                                      {66, 33}, {80, 40}, {128, 64}, {5, 2}, {16, 4}, {64, 8}, {80, 16}}) {
      const std::int64_t rows = 3, heads = 2, ldx = heads * d + 5, table = 7;
      const std::int32_t first = 40;
      const std::vector<std::int32_t> at = {46, 40, 43};
      const std::vector<float> cosine = random_floats(random, table * pairs, -1, 1), sine = random_floats(random, table * pairs, -1, 1);
      std::vector<float> x = random_floats(random, rows * ldx);
      const std::vector<float> before = x;
      ops_for(isa).rope({x.data(), ldx, rows, heads, d, pairs, at.data(), first, cosine.data(), sine.data()});
      for (std::int64_t t = 0; t < rows; ++t)
        for (std::int64_t c = 0; c < ldx; ++c) {
          const float got = x[t * ldx + c];
          if (c >= heads * d || c % d >= 2 * pairs) {
            CHECK(got == before[t * ldx + c], "rope " << isa_name(isa) << " wrote beyond what it turns");
            continue;
          }
          const std::int64_t base = t * ldx + c / d * d, i = c % d % pairs;
          const double a = before[base + i], b = before[base + i + pairs];
          const double co = cosine[(at[t] - first) * pairs + i], si = sine[(at[t] - first) * pairs + i];
          const double wanted = c % d < pairs ? a * co - b * si : b * co + a * si;
          const double bound = 3 * kEps * (std::fabs(a) + std::fabs(b));
          CHECK(std::fabs(got - wanted) <= bound, "rope " << isa_name(isa) << " d " << d << " [" << t << ", " << c << "]: " << got << ", expected " << wanted);
        }
    }
}

TEST(ops_pools) {
  Random random(4);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (std::int64_t rows : {1, 2, 3, 17}) {
        const std::int64_t ldx = width + 3;
        std::vector<float> x = random_floats(random, rows * ldx);
        std::vector<float> mean(static_cast<std::size_t>(width + 8), kCanary), max = mean;
        ops_for(isa).mean_pool({x.data(), ldx, rows, width, mean.data()});
        ops_for(isa).max_pool({x.data(), ldx, rows, width, max.data()});
        for (std::int64_t k = 0; k < width; ++k) {
          float sum = x[k], largest = x[k];
          for (std::int64_t t = 1; t < rows; ++t) {
            sum += x[t * ldx + k];
            largest = std::fmax(largest, x[t * ldx + k]);
          }
          CHECK(same_bits(mean[k], sum / static_cast<float>(rows)), "mean_pool " << isa_name(isa) << " " << width << " at " << k);
          CHECK(same_bits(max[k], largest), "max_pool " << isa_name(isa) << " " << width << " at " << k);
        }
        for (std::int64_t k = width; k < width + 8; ++k) CHECK(mean[k] == kCanary && max[k] == kCanary, "a pool wrote beyond its row");
        x[(rows / 2) * ldx + width / 2] = std::nanf("");
        ops_for(isa).max_pool({x.data(), ldx, rows, width, max.data()});
        for (std::int64_t k = 0; k < width; ++k) CHECK(std::isnan(max[k]) == (k == width / 2), "max_pool " << isa_name(isa) << " and NaN at " << k);
      }
}

TEST(ops_l2_normalize) {
  Random random(5);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (bool in_place : {false, true}) {
        const std::int64_t rows = 4;
        std::vector<float> x = random_floats(random, rows * width + 8);
        std::fill(x.begin() + width, x.begin() + 2 * width, 0.0f);
        for (std::int64_t k = 0; k < width; ++k) x[2 * width + k] *= 1e-15f;
        const std::vector<float> before = x;
        std::vector<float> y(x.size(), kCanary);
        float* to = in_place ? x.data() : y.data();
        ops_for(isa).l2_normalize({x.data(), rows, width, to});
        for (std::int64_t t = 0; t < rows; ++t) {
          double squares = 0.0;
          for (std::int64_t k = 0; k < width; ++k) squares += std::pow(static_cast<double>(before[t * width + k]), 2);
          for (std::int64_t k = 0; k < width; ++k) {
            const double wanted = before[t * width + k] / std::fmax(std::sqrt(squares), 1e-12);
            const double bound = kEps * (static_cast<double>(width) / 16 + 12) * std::fabs(wanted);
            CHECK(std::fabs(to[t * width + k] - wanted) <= bound, "l2_normalize " << isa_name(isa) << " " << width << " [" << t << ", " << k << "]: " << to[t * width + k] << ", expected " << wanted);
          }
        }
        for (std::int64_t i = rows * width; i < rows * width + 8; ++i)
          CHECK(to[i] == (in_place ? before[i] : kCanary), "l2_normalize wrote beyond its rows");
      }
}

TEST(ops_every_op_has_a_kernel_on_every_isa) {
  for (Isa isa : supported_isas()) {
#define OP(op, task, ...) CHECK(ops_for(isa).op != nullptr, #op << " has no kernel on " << isa_name(isa));
#include "ops/ops.inc"
#undef OP
  }
}

}  // namespace
}  // namespace aerogel
