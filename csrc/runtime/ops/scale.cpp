#include "runtime/ops/scale.h"

#include "runtime/work.h"

namespace aerogel {

Scale::Scale(const Program& program, int x, float factor)
    : Op("scale", "scale", {x}, program.value("scale", x)), factor_(factor) {}

void Scale::run(const Work& work) const {
  const std::int64_t width = result().width;
  const float* const x = work.x();
  float* const y = work.y();
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int) {
    work.ops.scale({x + begin * width, y + begin * width, count * width, factor_});
  });
}

}  // namespace aerogel
