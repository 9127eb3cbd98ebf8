// rope: rotary position embeddings, as RopeTask says.
#pragma once

#include "runtime/program.h"
#include "runtime/rotary.h"

namespace aerogel {

class Rope : public Op {
 public:
  // Rotates the first `heads` heads of every row: of each, the first 2 * rotary->pairs() columns.
  Rope(const Program& program, int x, std::int64_t heads, std::int64_t head_dim, std::shared_ptr<const Rotary> rotary);

  std::int64_t max_positions() const override { return rotary_->positions(); }
  bool in_place() const override { return true; }
  std::size_t scratch_bytes(const Extent& extent) const override;
  void reserve(std::int64_t positions) const override { rotary_->reserve(positions); }
  bool by_rows() const override { return true; }
  void run(const Work& work) const override;

 private:
  void turn(const Work& work, std::int64_t begin, std::int64_t end, std::int64_t length) const;
  void turn_by_length(const Work& work, std::int64_t begin, std::int64_t end, int thread) const;
  void turn_each(const Work& work, std::int64_t begin, std::int64_t end, std::int64_t length, int thread) const;

  std::int64_t heads_, head_dim_;
  std::shared_ptr<const Rotary> rotary_;
};

}  // namespace aerogel
