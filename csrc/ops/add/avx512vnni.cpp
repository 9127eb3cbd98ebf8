#include "vector/avx512vnni.h"

#include "ops/add/body.h"

namespace aerogel {

void add_avx512vnni(const AddTask& task) { add_arrays(task); }

}  // namespace aerogel
