#include "runtime/ops/join.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

std::int64_t width_of(const Program& program, const std::vector<int>& parts) {
  std::int64_t width = 0;
  for (const int part : parts) width += program.value("join", part).width;
  return width;
}

}  // namespace

Join::Join(const Program& program, const std::vector<int>& parts, const std::vector<std::int64_t>& shifts)
    : Op("join", "join", parts, {width_of(program, parts), Rows::tokens}), shifts_(shifts) {
  expect(!parts.empty() && parts.size() == shifts.size(), "join", "as many shifts as parts, at least one",
         std::to_string(shifts.size()) + " and " + std::to_string(parts.size()));
  for (const int part : parts) {
    const Value& value = program.value("join", part);
    expect(value.rows == Rows::tokens, "join", "values with a row per token", "another");
    widths_.push_back(value.width);
  }
}

void Join::run(const Work& work) const {
  const std::int64_t together = result().width;
  const Frame& frame = work.frame;
  work.over_rows(work.rows(), together, [&](std::int64_t begin, std::int64_t count, int) {
    for (std::int64_t s = 0; s < frame.sequences; ++s) {
      const std::int64_t first = frame.begin(s), end = frame.begin(s + 1);
      for (std::int64_t t = std::max(first, begin); t < std::min(end, begin + count); ++t) {
        float* y = work.y() + t * together;
        for (std::size_t i = 0; i < widths_.size(); ++i) {
          // Not t + shift first: a shift may be as large as its type holds.
          const bool there = shifts_[i] >= first - t && shifts_[i] < end - t;
          const std::size_t bytes = static_cast<std::size_t>(widths_[i]) * sizeof(float);
          if (there) {
            std::memcpy(y, work.x(i) + (t + shifts_[i]) * widths_[i], bytes);
          } else {
            std::memset(y, 0, bytes);
          }
          y += widths_[i];
        }
      }
    }
  });
}

}  // namespace aerogel
