// csr_f32 weights straight from the three arrays of a compressed-sparse-row matrix, as SciPy keeps them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "linear/weight.h"

namespace aerogel {

// w[n,k]: row r holds data[i] at column indices[i] for i in [indptr[r], indptr[r + 1]). Columns of a row may stand in any
// order; values of one column are added together, in the order they stand; explicit zeros are dropped. Borrows the arrays
// only while it runs. The layout is the same on every ISA, so any csr_f32 kernel takes the result.
//
// Index is std::int32_t or std::int64_t, SciPy's two index types. Throws ShapeError if n or k is less than 1, and DataError,
// with `name` in the message, if indptr does not start at 0, falls, or does not end at nnz; if a column lies outside [0, k);
// or if a value (or a sum of duplicates) is not finite.
template <class Index>
std::unique_ptr<Weight> csr_f32_from_arrays(const std::string& name, std::int64_t n, std::int64_t k, const Index* indptr,
                                            const Index* indices, const float* data, std::int64_t nnz);

extern template std::unique_ptr<Weight> csr_f32_from_arrays<std::int32_t>(const std::string&, std::int64_t, std::int64_t,
                                                                          const std::int32_t*, const std::int32_t*,
                                                                          const float*, std::int64_t);
extern template std::unique_ptr<Weight> csr_f32_from_arrays<std::int64_t>(const std::string&, std::int64_t, std::int64_t,
                                                                          const std::int64_t*, const std::int64_t*,
                                                                          const float*, std::int64_t);

}  // namespace aerogel
