#include "linear/gathered_q8/sort_block.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace aerogel {
namespace {

// Measured on Zen 5 (128 tokens, 768x768, 90 % zeros), in cycles a token: a vector, and the writing of 16 outputs out of a
// block of so many rows. By port counting Emerald Rapids has about the same proportions: a vector takes 1.1 cycles there,
// and 16 outputs 1, 2, 4 and 8 of the port of vpermt2d.
constexpr double kVectorCost = 0.85;
struct Choice {
  std::int64_t rows;
  double write_cost;
};
constexpr Choice kChoices[] = {{32, 4.5}, {64, 3.5}, {128, 4.6}, {256, 8.2}};

// Vectors are counted on this many stretches of so many rows, evenly over the matrix: a count is as much work as packing them.
constexpr std::int64_t kStretch = 256, kStretches = 2;

// A matrix keeps at least this many blocks, or few threads could share it.
constexpr std::int64_t kLeastBlocks = 6;

using Columns = std::vector<std::int32_t>;

// The vectors of a group of rows, as pack.cpp would fill them.
std::int64_t vectors_of_group(const GatheredGeometry& g, const std::vector<const Columns*>& rows) {
  std::vector<std::size_t> next(rows.size(), 0);
  for (std::int64_t vectors = 0;; ++vectors) {
    std::int32_t first = -1;
    for (std::size_t r = 0; r < rows.size(); ++r)
      if (next[r] < rows[r]->size() && (first < 0 || (*rows[r])[next[r]] < first)) first = (*rows[r])[next[r]];
    if (first < 0) return vectors;
    const std::int32_t chunk = first / g.chunk * g.chunk, begin = chunk + (first - chunk) / g.step * g.step;
    const std::int32_t end = std::min(begin + g.window, chunk + g.chunk);
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (int slot = 0; slot < 4 && next[r] < rows[r]->size() && (*rows[r])[next[r]] < end; ++slot) ++next[r];
  }
}

// The vectors of a stretch of rows that are sorted in blocks.
std::int64_t vectors_of_stretch(const GatheredGeometry& g, const std::vector<Columns>& rows, std::int64_t block) {
  std::vector<const Columns*> sorted(rows.size()), group(static_cast<std::size_t>(g.rows));
  for (std::size_t r = 0; r < rows.size(); ++r) sorted[r] = &rows[r];
  std::int64_t vectors = 0;
  for (auto at = sorted.begin(); at != sorted.end(); at += block)
    std::stable_sort(at, at + block, [](const Columns* a, const Columns* b) { return a->size() > b->size(); });
  for (auto at = sorted.begin(); at != sorted.end(); at += g.rows) {
    std::copy(at, at + g.rows, group.begin());
    vectors += vectors_of_group(g, group);
  }
  return vectors;
}

}  // namespace

std::int64_t usual_sort_block(const WeightSource& source, const GatheredGeometry&) { return source.n() >= 1024 ? 64 : 32; }

std::int64_t cheapest_sort_block(const WeightSource& source, const GatheredGeometry& geometry) {
  const std::int64_t all = (source.n() + kStretch - 1) / kStretch, count = std::min(all, kStretches);
  std::vector<double> cost(std::size(kChoices), 0.0);
  std::vector<std::int8_t> codes(static_cast<std::size_t>(source.k()));
  std::vector<Columns> rows(static_cast<std::size_t>(kStretch));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t first = all * i / count * kStretch, here = std::min(kStretch, source.n() - first);
    for (std::int64_t r = 0; r < kStretch; ++r) {
      Columns& columns = rows[static_cast<std::size_t>(r)];
      columns.clear();
      if (r >= here) continue;
      source.row_q8(first + r, codes.data());
      for (std::size_t k = 0; k < codes.size(); ++k)
        if (codes[k] != 0) columns.push_back(static_cast<std::int32_t>(k));
    }
    for (std::size_t c = 0; c < cost.size(); ++c) {
      const Choice& choice = kChoices[c];
      if (c != 0 && (source.n() + choice.rows - 1) / choice.rows < kLeastBlocks) break;
      const auto outputs = static_cast<double>((here + 15) / 16);
      cost[c] += kVectorCost * static_cast<double>(vectors_of_stretch(geometry, rows, choice.rows)) + choice.write_cost * outputs;
    }
  }
  std::size_t best = 0;
  for (std::size_t c = 1; c < cost.size() && cost[c] != 0.0; ++c)
    if (cost[c] < cost[best]) best = c;
  return kChoices[best].rows;
}

}  // namespace aerogel
