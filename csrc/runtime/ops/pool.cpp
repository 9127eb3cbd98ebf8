#include "runtime/ops/pool.h"

#include <cstring>
#include <utility>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

Pool::Kind Pool::kind_of(const std::string& kind) {
  static const std::pair<const char*, Kind> kKinds[] = {
      {"mean", Kind::mean}, {"max", Kind::max}, {"cls", Kind::cls}, {"last", Kind::last}};
  for (const auto& [name, pooling] : kKinds)
    if (kind == name) return pooling;
  throw Error("unknown pooling '" + kind + "': expected one of mean, max, cls, last");
}

Pool::Pool(const Program& program, int x, const std::string& kind)
    : Op("pool", "pool_" + kind, {x}, {program.value("pool", x).width, Rows::sequences}), pooling_(kind_of(kind)) {
  expect(program.value("pool", x).rows == Rows::tokens, "pool", "a value with a row per token", "another");
}

void Pool::run(const Work& work) const {
  const std::int64_t width = result().width, rows = work.rows();
  const float* const x = work.x();
  float* const y = work.y();
  for (std::int64_t s = 0; s < rows; ++s) {
    const std::int64_t begin = work.frame.begin(s), count = work.frame.begin(s + 1) - begin;
    const PoolTask task{x + begin * width, width, count, width, y + s * width};
    const auto copy = [&](std::int64_t token) {
      std::memcpy(task.y, task.x + token * width, static_cast<std::size_t>(width) * sizeof(float));
    };
    switch (pooling_) {
      case Kind::mean: work.ops.mean_pool(task); break;
      case Kind::max: work.ops.max_pool(task); break;
      case Kind::cls: copy(0); break;
      case Kind::last: copy(count - 1); break;
    }
  }
}

}  // namespace aerogel
