#include "runtime/ops/pool.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

namespace {

std::string joined(const std::vector<std::string>& kinds) {
  std::string name = "pool";
  for (const std::string& kind : kinds) name += "_" + kind;
  return name;
}

// y[k] = sum_t (t + 1) x[t,k] / sum_t (t + 1)
void weighted_mean(const PoolTask& task) {
  for (std::int64_t k = 0; k < task.width; ++k) task.y[k] = 0.0f;
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float weight = static_cast<float>(t + 1);
    const float* const x = task.x + t * task.ldx;
    for (std::int64_t k = 0; k < task.width; ++k) task.y[k] += weight * x[k];
  }
  const double rows = static_cast<double>(task.rows);
  const float sum = static_cast<float>(rows * (rows + 1) / 2);
  for (std::int64_t k = 0; k < task.width; ++k) task.y[k] /= sum;
}

}  // namespace

Pool::Kind Pool::kind_of(const std::string& kind) {
  static const std::pair<const char*, Kind> kKinds[] = {
      {"mean", Kind::mean}, {"max", Kind::max},
      {"cls", Kind::cls}, {"last", Kind::last},
      {"mean_sqrt_len", Kind::mean_sqrt_len}, {"weightedmean", Kind::weightedmean}};
  for (const auto& [name, pooling] : kKinds)
    if (kind == name) return pooling;
  throw Error("unknown pooling '" + kind + "': expected one of mean, max, cls, last, mean_sqrt_len, weightedmean");
}

Pool::Pool(const Program& program, int x, const std::vector<std::string>& kinds)
    : Op("pool", joined(kinds), {x},
         {program.value("pool", x).width * static_cast<std::int64_t>(kinds.size()), Rows::sequences}) {
  expect(program.value("pool", x).rows == Rows::tokens, "pool", "a value with a row per token", "another");
  expect(!kinds.empty(), "pool", "at least one kind", "none");
  for (const std::string& kind : kinds) kinds_.push_back(kind_of(kind));
}

void Pool::run(const Work& work) const {
  const std::int64_t together = result().width, rows = work.rows();
  const std::int64_t width = together / static_cast<std::int64_t>(kinds_.size());
  const float* const x = work.x();
  for (std::int64_t s = 0; s < rows; ++s) {
    const std::int64_t begin = work.frame.begin(s), count = work.frame.begin(s + 1) - begin;
    float* y = work.y() + s * together;
    for (const Kind kind : kinds_) {
      const PoolTask task{x + begin * width, width, count, width, y};
      const auto copy = [&](std::int64_t token) {
        std::memcpy(task.y, task.x + token * width, static_cast<std::size_t>(width) * sizeof(float));
      };
      switch (kind) {
        case Kind::mean: work.ops.mean_pool(task); break;
        case Kind::max: work.ops.max_pool(task); break;
        case Kind::cls: copy(0); break;
        case Kind::last: copy(count - 1); break;
        case Kind::weightedmean: weighted_mean(task); break;
        case Kind::mean_sqrt_len: {
          work.ops.mean_pool(task);
          const float root = std::sqrt(static_cast<float>(count));
          for (std::int64_t k = 0; k < width; ++k) y[k] *= root;
          break;
        }
      }
      y += width;
    }
  }
}

}  // namespace aerogel
