// Bound by what it reads and writes; rows of a head are one or a few cache lines each.
#include "vector/neon.h"

#include "ops/keep_rows/body.h"

namespace aerogel {

void keep_rows_neon(const KeepTask& task) { keep_rows(task); }

}  // namespace aerogel
