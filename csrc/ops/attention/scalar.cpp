#include "ops/attention/scalar.h"

namespace aerogel {

void attention_scalar(const AttentionTask& task) {
  attend(task, [&](std::int64_t j, std::int64_t c) { return task.k[j * task.ldk + c]; },
         [&](std::int64_t j, std::int64_t c) { return task.v[j * task.ldv + c]; });
}

}  // namespace aerogel
