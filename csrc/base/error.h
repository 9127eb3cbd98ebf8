// Errors of the core. The bindings turn each into the Python exception of the same name.
#pragma once

#include <stdexcept>
#include <string>

namespace aerogel {

// Every message says what, where, expected and got.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An array or an op has the wrong shape.
class ShapeError : public Error {
 public:
  using Error::Error;
};

// Data that cannot be right: an index out of range, a mask that lies, a weight that is not finite.
class DataError : public Error {
 public:
  using Error::Error;
};

// An instruction set that is unknown, or that this CPU or operating system does not have.
class IsaError : public Error {
 public:
  using Error::Error;
};

// "[3072, 768]"
inline std::string shape_text(long long rows, long long columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

}  // namespace aerogel
