// Over the vocabulary of a vector/<isa>.h, which is included before.
#pragma once

#include "ops/ops.h"

namespace aerogel {
namespace {

void add_arrays(const AddTask& task) {
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= task.count; i += 2 * kLanes) {
    const Vector a = add(load(task.a + i), load(task.b + i));
    const Vector b = add(load(task.a + i + kLanes), load(task.b + i + kLanes));
    store(task.y + i, a);
    store(task.y + i + kLanes, b);
  }
  for (; i < task.count; i += kLanes) {
    const std::int64_t n = task.count - i;
    store_first(task.y + i, add(load_first(task.a + i, n), load_first(task.b + i, n)), n);
  }
}

}  // namespace
}  // namespace aerogel
