#include "runtime/ops/add.h"

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

Add::Add(const Program& program, int x, int y) : Op("add", "add", {x, y}, program.value("add", x)) {
  const Value &a = result(), &b = program.value("add", y);
  expect(a.width == b.width && a.rows == b.rows, "add", "two values of one shape",
         "widths " + std::to_string(a.width) + " and " + std::to_string(b.width));
}

void Add::run(const Work& work) const {
  const std::int64_t width = result().width;
  const float *const a = work.x(0), *const b = work.x(1);
  float* const y = work.y();
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int) {
    work.ops.add({a + begin * width, b + begin * width, y + begin * width, count * width});
  });
}

}  // namespace aerogel
