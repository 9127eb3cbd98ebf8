#include "vector/neon.h"

#include "ops/add/body.h"

namespace aerogel {

void add_neon(const AddTask& task) { add_arrays(task); }

}  // namespace aerogel
