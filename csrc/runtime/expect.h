// Checks of shapes, for ops when they are made.
#pragma once

#include <string>

#include "base/error.h"
#include "runtime/op.h"

namespace aerogel {

inline void expect(bool holds, const std::string& name, const std::string& expected, const std::string& got) {
  if (!holds) throw ShapeError(name + ": expected " + expected + ", got " + got);
}

inline void expect_length(const Floats& vector, std::int64_t length, const std::string& name) {
  expect(vector != nullptr && static_cast<std::int64_t>(vector->size()) == length, name, "[" + std::to_string(length) + "]",
         vector == nullptr ? "nothing" : "[" + std::to_string(vector->size()) + "]");
}

}  // namespace aerogel
