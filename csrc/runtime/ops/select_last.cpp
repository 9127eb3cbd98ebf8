#include "runtime/ops/select_last.h"

#include <cstring>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {

SelectLast::SelectLast(const Program& program, int x)
    : Op("select_last", "select_last", {x}, {program.value("select_last", x).width, Rows::selected}) {
  expect(program.value("select_last", x).rows == Rows::tokens, "select_last", "a value with a row per token", "another");
}

void SelectLast::run(const Work& work) const {
  const std::int64_t width = result().width, rows = work.rows();
  const float* const x = work.x();
  float* const y = work.y();
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t token = work.frame.batch.last_only ? work.frame.begin(r + 1) - 1 : r;
    std::memcpy(y + r * width, x + token * width, static_cast<std::size_t>(width) * sizeof(float));
  }
}

}  // namespace aerogel
