// A product of which the places of a pattern are wanted, over a team of threads.
#pragma once

#include <cstdint>

namespace aerogel {

// The places of a matrix [rows, columns] that are kept, in the form of a compressed-sparse-row matrix.
struct Places {
  std::int64_t rows, columns;
  const std::int32_t* row_begin;  // [rows + 1]
  const std::int32_t* column;     // [kept]
  std::int64_t kept;
};

// product [rows, columns] = y [tokens, rows]^T x [tokens, columns] at the places, 0 elsewhere. threads 0: default_threads().
// Throws DataError if row_begin does not rise from 0 to `kept`, or a column is outside the matrix.
void sampled_once(const Places& places, const float* x, const float* y, std::int64_t tokens, float* product, int threads);

}  // namespace aerogel
