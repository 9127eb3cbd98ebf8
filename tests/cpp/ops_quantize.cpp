// quantize: codes and scales bit for bit as ops.h defines them, on every instruction set.
#include <limits>

#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

void check(Isa isa, const std::vector<float>& x, std::int64_t ldx, std::int64_t rows, std::int64_t width, std::int64_t ldq,
           float limit = 0.0f) {
  Codes codes(rows, ldq);
  ops_for(isa).quantize({x.data(), ldx, rows, width, codes.q.data(), ldq, codes.scale.data(), limit});
  const std::string where = std::string("quantize ") + isa_name(isa) + " width " + std::to_string(width) + " limit " + std::to_string(limit);
  for (std::int64_t t = 0; t < rows; ++t) codes.check_row(t, x.data() + t * ldx, width, where, limit);
  codes.check_canary(where);
}

TEST(ops_quantize_widths) {
  Random random(1);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths) {
      const std::int64_t rows = 5, ldx = width + 3, ldq = round_up<std::int64_t>(width, 64) + 64 * random.below(3);
      check(isa, random_floats(random, rows * ldx, -30.0f, 20.0f), ldx, rows, width, ldq);
    }
}

// Half way between two codes: to the even one.
TEST(ops_quantize_ties) {
  std::vector<float> x;
  for (int i = -254; i <= 254; ++i) x.push_back(static_cast<float>(i) * 0.5f);
  for (Isa isa : tested_isas()) check(isa, x, 0, 1, static_cast<std::int64_t>(x.size()), 512);
}

TEST(ops_quantize_extremes) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const float largest = std::numeric_limits<float>::max(), denormal = std::numeric_limits<float>::denorm_min();
  Random random(2);
  for (Isa isa : tested_isas())
    for (std::int64_t width : {1, 5, 8, 33, 64, 100})
      for (float value : {0.0f, -0.0f, inf, -inf, nan, -nan, largest, -largest, denormal, -1e-40f, 1.17e-38f, 3.7e-37f, 3.73e-37f, 3.74e-37f, 3.8e-37f, 1e-36f})
        for (std::int64_t at : {std::int64_t{0}, width / 2, width - 1}) {
          std::vector<float> x = random_floats(random, width, -1e-37f, 1e-37f);
          if (value == 0.0f) x.assign(x.size(), value);
          x[at] = value;
          check(isa, x, width, 1, width, 128);
        }
}

// Every mantissa of the largest element: the division and the product at their worst.
TEST(ops_quantize_mantissas) {
  Random random(3);
  for (Isa isa : tested_isas())
    for (int i = 0; i < 20000; ++i) {
      const float largest = random.uniform(0.5f, 2.0f);
      std::vector<float> x(16);
      for (int k = 0; k < 16; ++k) x[k] = largest * (static_cast<float>(random.below(255) - 127) + 0.5f) / 127.5f;
      x[i % 16] = -largest;
      check(isa, x, 16, 1, 16, 64);
    }
}

// Rows within the limit, at it, and beyond it side by side.
TEST(ops_quantize_limits) {
  Random random(4);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (float limit : {0.37f, 19.9f, 30.0f, 1000.0f}) {
        const std::int64_t rows = 7, ldx = width + 3, ldq = round_up<std::int64_t>(width, 64) + 64 * random.below(3);
        std::vector<float> x = random_floats(random, rows * ldx, -30.0f, 30.0f);
        for (std::int64_t k = 0; k < width; ++k) {
          x[k] = 0.0f;
          x[ldx + k] = random.uniform(-limit, limit);
        }
        x[ldx + width / 2] = -limit;
        x[2 * ldx + width - 1] = std::nextafter(limit, 1e9f);
        check(isa, x, ldx, rows, width, ldq, limit);
      }
}

TEST(ops_quantize_limit_ties) {
  std::vector<float> x;
  for (int i = -400; i <= 400; ++i) x.push_back(static_cast<float>(i) * 0.5f);
  for (Isa isa : tested_isas())
    for (float limit : {127.0f, 254.0f, 63.5f}) check(isa, x, 0, 1, static_cast<std::int64_t>(x.size()), 832, limit);
}

TEST(ops_quantize_limit_extremes) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const float largest = std::numeric_limits<float>::max(), denormal = std::numeric_limits<float>::denorm_min();
  Random random(5);
  for (Isa isa : tested_isas())
    for (std::int64_t width : {1, 5, 8, 33, 64, 100})
      for (float limit : {3.74e-37f, 1.0f, largest})
        for (float value : {0.0f, -0.0f, inf, -inf, nan, -nan, largest, -largest, denormal, -1e-40f, 8388607.5f, -1e10f})
          for (std::int64_t at : {std::int64_t{0}, width / 2, width - 1}) {
            std::vector<float> x = random_floats(random, width, -1.0f, 1.0f);
            x[at] = value;
            check(isa, x, width, 1, width, 128, limit);
          }
}

}  // namespace
}  // namespace aerogel
