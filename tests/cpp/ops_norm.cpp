// layer_norm and rms_norm against double precision, in every combination of residual, sum, codes and aliasing.
#include "ops_support.h"

namespace aerogel {
namespace {

using namespace testing;

enum class Alias { none, y_is_x, y_is_residual, sum_is_x, sum_is_y, sum_is_residual };

struct Options {
  bool rms, residual, sum, beta, q, scratch_y;
  Alias alias;
};

void check(Isa isa, std::int64_t width, const Options& o, std::uint64_t seed, float shift) {
  Random random(seed);
  const std::int64_t rows = 7, ld = width + 5;
  std::vector<float> x = random_floats(random, rows * ld, -2.0f + shift, 2.0f + shift), residual = random_floats(random, rows * ld);
  const std::vector<float> x0 = x, residual0 = residual;
  const std::vector<float> gamma = random_floats(random, width), beta = random_floats(random, width);
  std::vector<float> y(static_cast<std::size_t>(rows * ld), kCanary), sum(static_cast<std::size_t>(rows * ld), kCanary);
  Codes codes(rows, round_up<std::int64_t>(width, 64) + 64);
  const float eps = 1e-5f;

  NormTask task{};
  task.x = x.data();
  task.residual = o.residual ? residual.data() : nullptr;
  task.ldx = ld;
  task.rows = rows;
  task.width = width;
  task.gamma = gamma.data();
  task.beta = o.beta ? beta.data() : nullptr;
  task.eps = eps;
  task.sum = o.sum ? sum.data() : nullptr;
  task.y = y.data();
  task.ldy = o.scratch_y ? 0 : ld;
  if (o.alias == Alias::y_is_x) task.y = x.data();
  if (o.alias == Alias::y_is_residual) task.y = residual.data();
  if (o.alias == Alias::sum_is_x) task.sum = x.data();
  if (o.alias == Alias::sum_is_residual) task.sum = residual.data();
  if (o.alias == Alias::sum_is_y) task.sum = task.y;
  if (o.q) {
    task.q = codes.q.data();
    task.ldq = codes.ldq;
    task.q_scale = codes.scale.data();
  }
  (o.rms ? ops_for(isa).rms_norm : ops_for(isa).layer_norm)(task);

  const std::string where = std::string(o.rms ? "rms_norm " : "layer_norm ") + isa_name(isa) + " width " + std::to_string(width) +
                            " alias " + std::to_string(static_cast<int>(o.alias));
  for (std::int64_t t = 0; t < rows; ++t) {
    std::vector<double> s(static_cast<std::size_t>(width));
    double mean = 0.0, squares = 0.0, largest = 0.0;
    for (std::int64_t k = 0; k < width; ++k) {
      const float value = o.residual ? x0[t * ld + k] + residual0[t * ld + k] : x0[t * ld + k];
      s[k] = value;
      mean += s[k] / static_cast<double>(width);
      largest = std::fmax(largest, std::fabs(s[k]));
      if (task.sum != nullptr && task.sum != task.y)
        CHECK(task.sum[t * ld + k] == value, where << " sum [" << t << ", " << k << "]");
    }
    if (o.rms) mean = 0.0;
    for (double v : s) squares += (v - mean) * (v - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(width) + static_cast<double>(eps));
    const bool last = t + 1 == rows;
    if (!o.scratch_y || last) {
      const float* got = task.y + t * task.ldy;
      for (std::int64_t k = 0; k < width; ++k) {
        const double normal = (s[k] - mean) / deviation, b = o.beta ? beta[k] : 0.0;
        // Sums of width / 16 terms a lane and the tree over the lanes, in the mean and in the squares; then a handful of roundings.
        const double steps = static_cast<double>(width) / 16 + 20;
        const double bound = kEps * (steps * (largest / deviation + std::fabs(normal)) * std::fabs(gamma[k]) + 4 * std::fabs(b));
        CHECK(std::fabs(got[k] - (normal * gamma[k] + b)) <= bound,
              where << " [" << t << ", " << k << "]: " << got[k] << ", expected " << normal * gamma[k] + b << " +- " << bound);
      }
      if (o.q) codes.check_row(t, got, width, where);
    }
    if (task.y == y.data() && !o.scratch_y)
      for (std::int64_t k = width; k < ld; ++k) CHECK(y[t * ld + k] == kCanary, where << " wrote beyond its row");
  }
  if (o.scratch_y)
    for (std::size_t i = static_cast<std::size_t>(width); i < y.size(); ++i) CHECK(y[i] == kCanary, where << " wrote beyond its scratch");
  if (o.q) codes.check_canary(where);

  if (o.q && o.scratch_y) {  // the same codes with and without a place for y
    Codes again(rows, codes.ldq);
    std::vector<float> all(static_cast<std::size_t>(rows * ld));
    std::vector<float> copy = x0, copy_residual = residual0;
    task.x = copy.data();
    if (o.residual) task.residual = copy_residual.data();
    task.sum = o.sum ? sum.data() : nullptr;
    task.y = all.data();
    task.ldy = ld;
    task.q = again.q.data();
    task.q_scale = again.scale.data();
    (o.rms ? ops_for(isa).rms_norm : ops_for(isa).layer_norm)(task);
    CHECK(std::memcmp(again.q.data(), codes.q.data(), codes.q.size()) == 0 && again.scale == codes.scale, where << " codes with scratch");
  }
}

TEST(ops_norm) {
  std::uint64_t seed = 1;
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (int bits = 0; bits < 64; ++bits)
        for (Alias alias : {Alias::none, Alias::y_is_x, Alias::y_is_residual, Alias::sum_is_x, Alias::sum_is_y, Alias::sum_is_residual}) {
          const auto bit = [&](int i) { return ((bits >> i) & 1) != 0; };
          const Options o{bit(0), bit(1), bit(2), !bit(0) && bit(3), bit(4), bit(5), alias};
          if ((alias == Alias::y_is_residual || alias == Alias::sum_is_residual) && !o.residual) continue;
          if (alias != Alias::none && o.scratch_y) continue;
          ++seed;
          check(isa, width, o, seed, seed % 5 == 0 ? 20.0f : 0.0f);
        }
}

TEST(ops_norm_constant_and_poisoned_rows) {
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (bool rms : {false, true}) {
        const auto run = rms ? ops_for(isa).rms_norm : ops_for(isa).layer_norm;
        std::vector<float> x(static_cast<std::size_t>(width), 0.0f), gamma(x.size(), 2.0f), y(x.size());
        Codes codes(1, round_up<std::int64_t>(width, 64));
        NormTask task{x.data(), nullptr, width, 1, width, gamma.data(), nullptr, 1e-5f, nullptr, y.data(), width,
                      codes.q.data(), codes.ldq, codes.scale.data()};
        run(task);
        for (float v : y) CHECK(v == 0.0f, "a row of zeros stays one");
        CHECK(codes.scale[0] == 0.0f, "and has no scale");
        x[width / 2] = std::nanf("");
        run(task);
        for (float v : y) CHECK(std::isnan(v), isa_name(isa) << " hides a NaN");
        CHECK(std::isnan(codes.scale[0]) && codes.q[0] == 0, isa_name(isa) << " hides a NaN from the codes");
      }
}

}  // namespace
}  // namespace aerogel
