#include "vector/avx2.h"

#include "ops/add/body.h"

namespace aerogel {

void add_avx2(const AddTask& task) { add_arrays(task); }

}  // namespace aerogel
