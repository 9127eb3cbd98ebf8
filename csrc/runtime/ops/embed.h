// embed: [T, H], the sum of each token's rows of up to three tables.
#pragma once

#include <memory>
#include <string>

#include "runtime/packed_linear.h"
#include "runtime/program.h"

namespace aerogel {

// An embedding table: float, bf16, f16, int8 with one scale per row, or packed weights, whose rows are decoded when they are looked up
// (a linear may share them). Borrows its arrays; `owner` keeps them alive.
struct Table {
  std::string name;
  std::int64_t entries = 0, width = 0;
  const float* f32 = nullptr;
  const std::uint16_t* bf16 = nullptr;
  const std::uint16_t* f16 = nullptr;
  const std::int8_t* q8 = nullptr;
  const float* scale = nullptr;
  PackedLinear packed;
  std::shared_ptr<const void> owner;
};

class Embed : public Op {
 public:
  // positions and types: null where the model has none. Token i of a sequence has row position_offset + i of positions.
  Embed(const Program& program, std::shared_ptr<const Table> tokens, std::shared_ptr<const Table> positions,
        std::shared_ptr<const Table> types, std::int64_t position_offset);

  std::int64_t max_positions() const override { return positions_ == nullptr ? 0 : positions_->entries - position_offset_; }
  void check(const Batch& batch) const override;
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 private:
  std::shared_ptr<const Table> tokens_, positions_, types_;
  std::int64_t position_offset_;
};

}  // namespace aerogel
