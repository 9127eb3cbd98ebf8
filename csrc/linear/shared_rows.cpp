#include "linear/shared_rows.h"

#include "linear/pattern.h"

namespace aerogel {

std::int64_t shared_rows(const WeightSource& source) {
  const Pattern pattern = find_pattern(source);
  return 10 * 4 * pattern.rows4 <= 11 * 2 * pattern.rows2 ? 4 : 2;
}

}  // namespace aerogel
