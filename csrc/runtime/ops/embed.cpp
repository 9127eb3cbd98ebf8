#include "runtime/ops/embed.h"

#include <algorithm>
#include <vector>

#include "runtime/expect.h"
#include "runtime/work.h"

namespace aerogel {
namespace {

const Table& needed(const std::shared_ptr<const Table>& tokens) {
  if (tokens == nullptr) throw ShapeError("embed: a token table is needed");
  return *tokens;
}

void expect_table(const Table& table, std::int64_t width) {
  expect(table.entries >= 1 && table.width == width, table.name, "[entries, " + std::to_string(width) + "]",
         shape_text(table.entries, table.width));
}

// y[rows, width] (+)= rows of packed weights.
void add_packed(const Ops& ops, const Table& table, const std::int32_t* ids, std::int64_t rows, bool accumulate, float* y) {
  std::vector<float> row(accumulate ? static_cast<std::size_t>(table.width) : 0);
  for (std::int64_t t = 0; t < rows; ++t, y += table.width) {
    table.packed.row_f32(ids[t], accumulate ? row.data() : y);
    if (accumulate) ops.add({y, row.data(), y, table.width});
  }
}

}  // namespace

Embed::Embed(const Program&, std::shared_ptr<const Table> tokens, std::shared_ptr<const Table> positions,
             std::shared_ptr<const Table> types, std::int64_t position_offset)
    : Op("embed", needed(tokens).name, {}, {needed(tokens).width, Rows::tokens}),
      tokens_(std::move(tokens)),
      positions_(std::move(positions)),
      types_(std::move(types)),
      position_offset_(position_offset) {
  const std::int64_t width = tokens_->width;
  expect_table(*tokens_, width);
  if (positions_ != nullptr) {
    expect_table(*positions_, width);
    expect(position_offset >= 0 && position_offset < positions_->entries, positions_->name,
           "more than " + std::to_string(position_offset) + " positions", std::to_string(positions_->entries));
  }
  if (types_ != nullptr) expect_table(*types_, width);
}

void Embed::check(const Batch& batch) const {
  const auto text = [](std::int64_t number) { return std::to_string(number); };
  for (std::int64_t t = 0; t < batch.token_count; ++t)
    if (batch.tokens[t] < 0 || batch.tokens[t] >= tokens_->entries)
      throw DataError("token " + text(t) + ": expected an id in [0, " + text(tokens_->entries) + "), got " + text(batch.tokens[t]));
  if (batch.types == nullptr) return;
  if (types_ == nullptr) throw DataError("token types were given, but this model has none");
  for (std::int64_t t = 0; t < batch.token_count; ++t)
    if (batch.types[t] < 0 || batch.types[t] >= types_->entries)
      throw DataError("token " + text(t) + ": expected a type in [0, " + text(types_->entries) + "), got " + text(batch.types[t]));
}

void Embed::run(const Work& work) const {
  const Ops& ops = work.ops;
  const Frame& frame = work.frame;
  const std::int64_t width = result().width;
  float* const y = work.y();
  work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int) {
    // All tables of a few rows before the next few: the sums stay in L1.
    constexpr std::int64_t kBlock = 8;
    std::int32_t ids[kBlock];
    for (std::int64_t r = begin; r < begin + count; r += kBlock) {
      const std::int64_t block = std::min(kBlock, begin + count - r);
      const auto sum = [&](const Table& table, const std::int32_t* rows_ids, bool accumulate) {
        if (!table.packed.empty()) return add_packed(ops, table, rows_ids, block, accumulate, y + r * width);
        const std::uint16_t* const half = table.bf16 != nullptr ? table.bf16 : table.f16;
        const EmbedTask task{rows_ids, block, width, table.f32, table.q8, table.scale, accumulate, y + r * width, half};
        const auto embed = table.q8 != nullptr     ? ops.embed_q8
                           : table.bf16 != nullptr ? ops.embed_bf16
                           : table.f16 != nullptr  ? ops.embed_f16
                                                   : ops.embed_f32;
        embed(task);
      };
      sum(*tokens_, frame.batch.tokens + frame.first_token + r, false);
      if (positions_ != nullptr) {
        for (std::int64_t i = 0; i < block; ++i) ids[i] = frame.positions[r + i] + static_cast<std::int32_t>(position_offset_);
        sum(*positions_, ids, true);
      }
      if (types_ != nullptr) {
        for (std::int64_t i = 0; i < block; ++i)
          ids[i] = frame.batch.types == nullptr ? 0 : frame.batch.types[frame.first_token + r + i];
        sum(*types_, ids, true);
      }
    }
  });
}

}  // namespace aerogel
