// The weights of one linear layer, packed for this CPU in one or two forms.
//
// No format is the fastest for every number of rows: some put output rows on the lanes and shine when few tokens are
// multiplied, others put tokens there and need many. So a layer may hold two forms of the same weights, each for its
// range of rows. Whoever packs decides (Python measures, see python/aerogel/tuning/); here the choice is only obeyed.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/table.h"

namespace aerogel {

constexpr std::int64_t kAnyRows = std::numeric_limits<std::int64_t>::max();

struct LinearForm {
  std::shared_ptr<const Weight> weight;
  const LinearKernel* kernel = nullptr;
  std::int64_t max_rows = kAnyRows;  // serves calls of up to so many rows that no earlier form serves
};

// What to pack: the format's name, and the rows it is to serve.
struct FormChoice {
  std::string format;
  std::int64_t max_rows = kAnyRows;
};

// Immutable and cheap to copy. All forms hold the same weights and take the same kind of input.
class PackedLinear {
 public:
  PackedLinear() = default;
  // numbers: of the source, see WeightSource::numbers().
  PackedLinear(std::vector<LinearForm> forms, const char* numbers) : forms_(std::move(forms)), numbers_(numbers) {}

  bool empty() const { return forms_.empty(); }
  const std::vector<LinearForm>& forms() const { return forms_; }
  const LinearForm& form(std::int64_t rows) const {
    std::size_t i = 0;
    while (i + 1 < forms_.size() && rows > forms_[i].max_rows) ++i;
    return forms_[i];
  }
  // How many of a call's rows its form runs: those of whole tiles, where the few behind them are better run by the form that serves
  // so few: at 40 % zeros quads_q8, in tiles of 32, takes 33 tokens in 1.15 times as long as dense, and 32 in .76 (Zen 3).
  std::int64_t whole(std::int64_t rows) const {
    const LinearForm& many = form(rows);
    const std::int64_t rest = rows % many.kernel->tile;
    return rest == 0 || &form(rest) == &many || &form(rows - rest) != &many ? rows : rows - rest;
  }

  std::int64_t n() const { return forms_[0].weight->n(); }
  std::int64_t k() const { return forms_[0].weight->k(); }
  std::int64_t nonzeros() const { return forms_[0].weight->nonzeros(); }
  const char* numbers() const { return numbers_; }
  bool quantized_x() const { return forms_[0].kernel->quantized_x; }
  std::size_t bytes() const;                                // resident, all forms together
  std::size_t scratch_bytes(std::int64_t max_rows) const;   // enough for every call of up to so many rows
  void row_f32(std::int64_t n, float* out) const { forms_[0].weight->row_f32(n, out); }

 private:
  std::vector<LinearForm> forms_;
  const char* numbers_ = "";
};

// Packs for `isa`. Choices stand by rising max_rows, and the last serves any number of rows. Throws Error for an unknown
// format, for one that takes other values than the source holds, and for choices out of order.
PackedLinear pack_linear(const WeightSource& source, const std::vector<FormChoice>& choices, Isa isa);

// What serves these weights when nothing was measured: the sparse format from the sparsity at which it won where it was
// measured (docs/kernels.md), the dense one otherwise.
std::vector<FormChoice> auto_forms(const WeightSource& source, Isa isa);

}  // namespace aerogel
