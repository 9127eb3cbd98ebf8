#include "runtime/sampled_run.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/aligned.h"
#include "base/error.h"
#include "kernels/table.h"
#include "runtime/linear_run.h"
#include "runtime/scratch.h"

namespace aerogel {
namespace {

void check(const Places& places) {
  const std::int32_t* begin = places.row_begin;
  if (begin[0] != 0) throw DataError("places: indptr: expected 0 first, got " + std::to_string(begin[0]));
  for (std::int64_t n = 0; n < places.rows; ++n)
    if (begin[n + 1] < begin[n]) throw DataError("places: indptr falls behind row " + std::to_string(n));
  if (begin[places.rows] != places.kept)
    throw DataError("places: indptr: expected " + std::to_string(places.kept) + " last, got " + std::to_string(begin[places.rows]));
  for (std::int64_t i = 0; i < places.kept; ++i)
    if (places.column[i] < 0 || places.column[i] >= places.columns)
      throw DataError("places: column " + std::to_string(places.column[i]) + " is outside [0, " + std::to_string(places.columns) + ")");
}

// The first row at or behind which so many places are.
std::int64_t row_at(const Places& places, std::int64_t place) {
  return std::lower_bound(places.row_begin, places.row_begin + places.rows, place) - places.row_begin;
}

}  // namespace

void sampled_once(const Places& places, const float* x, const float* y, std::int64_t tokens, float* product, int threads) {
  check(places);
  const OnceCrew once(threads);
  const int size = once.crew().size();
  // Rows are cut so that parts cost alike, some milliseconds at most; each transposes all of x for itself.
  constexpr std::int64_t kPartProducts = 100'000'000;
  const std::int64_t wanted = std::max<std::int64_t>(size, places.kept * tokens / kPartProducts);
  const std::int64_t parts = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, places.rows));
  const std::size_t bytes = sampled_scratch(places.columns, places.rows);
  ScratchPool scratch(size);
  scratch.reserve(bytes);
  AlignedBuffer<float> sums(static_cast<std::size_t>(places.kept));
  const Ops& ops = ops_for(active_isa());
  once.crew().run(parts, [&](std::int64_t part, int thread) noexcept {
    const std::int64_t begin = row_at(places, places.kept * part / parts);
    const std::int64_t end = part + 1 == parts ? places.rows : row_at(places, places.kept * (part + 1) / parts);
    if (begin >= end) return;
    ops.sampled_product({x, places.columns, y + begin, places.rows, tokens, places.columns, end - begin, places.row_begin + begin,
                         places.column, sums.data(), scratch.of(thread)});
    for (std::int64_t n = begin; n < end; ++n) {
      float* row = product + n * places.columns;
      std::memset(row, 0, static_cast<std::size_t>(places.columns) * sizeof(float));
      for (std::int64_t i = places.row_begin[n]; i < places.row_begin[n + 1]; ++i) row[places.column[i]] = sums.data()[i];
    }
  });
}

}  // namespace aerogel
