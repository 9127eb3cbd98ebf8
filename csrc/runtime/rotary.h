// Rotary: by which angles rotary position embeddings turn, with the cosines and sines of them. One is shared by all layers of a
// model, and by its programs and sessions on any threads.
//
// The tables are made in blocks, as far as the longest sequence so far: a model with a million positions costs nothing more
// until somebody uses them. A block stays where it is once it is there, so whoever reads one waits for nobody. Two threads
// may make the same block; both hold the same bits, and the first to put it there wins.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace aerogel {

class Rotary {
 public:
  // "Dynamic NTK": of sequences of n > `switch` positions, the base grows to
  //     theta * (factor * n / switch - (factor - 1)) ^ (d / (d - 2))          d: 2 * pairs
  struct Growth {
    float theta, factor;
  };
  // How sequences of more than `after` positions turn: by other frequencies, or by ones that depend on their length.
  struct Beyond {
    std::int64_t after = 0;
    std::vector<float> frequencies;  // [pairs], or empty
    Growth growth{0, 0};             // without frequencies
  };
  // Where one block holds cos and sin of a run of positions, [kBlock, pairs] each.
  struct Rows {
    const float* cos;
    const float* sin;
    std::int32_t first;  // the position of row 0
  };
  static constexpr std::int64_t kBlock = 512;

  // frequencies: radians a position, of every pair of columns. positions: no sequence is longer. scale: of cos and sin.
  // Throws ShapeError, and DataError for numbers that are not finite.
  Rotary(std::vector<float> frequencies, std::int64_t positions, float scale = 1.0f, std::optional<Beyond> beyond = std::nullopt);

  std::int64_t pairs() const { return pairs_; }
  std::int64_t positions() const { return positions_; }

  std::size_t table_bytes() const;  // of the tables made so far

  // Makes the tables of sequences of up to `length` positions. Any number of threads may. Throws std::bad_alloc.
  void reserve(std::int64_t length) const {
    if (length > ready_.load(std::memory_order_acquire)) grow(length);
  }

  // Whether there is more than one way to turn.
  bool looks_at_length() const { return after_ != kNever; }
  // Whether all sequences of up to `length` positions turn by the same table.
  bool is_uniform(std::int64_t length) const { return length <= after_; }
  // Whether there are tables of a sequence of `length` positions; else turn() is all there is.
  bool has_table(std::int64_t length) const { return is_uniform(length) || !far_.frequencies.empty(); }
  // The block with `position` of a sequence of `length` positions, which have been reserved.
  Rows rows(std::int64_t position, std::int64_t length) const {
    const Table& table = is_uniform(length) ? near_ : far_;
    const std::size_t block = static_cast<std::size_t>(position) / kBlock;
    const float* const cos = table.blocks[block].load(std::memory_order_acquire);
    return {cos, cos + kBlock * pairs_, static_cast<std::int32_t>(block * kBlock)};
  }
  // The frequencies of a sequence of `length` positions, [pairs].
  void frequencies(std::int64_t length, float* to) const;
  // cos and sin of one position, [pairs] each.
  void turn(std::int64_t position, const float* frequencies, float* cos, float* sin) const;

 private:
  // Blocks of cos and sin, null until they are made.
  struct Table {
    explicit Table(std::vector<float> values) : frequencies(std::move(values)) {}
    ~Table();
    void allow(std::int64_t positions);

    std::vector<float> frequencies;
    std::int64_t count = 0;  // of blocks
    std::unique_ptr<std::atomic<float*>[]> blocks;
  };
  static constexpr std::int64_t kNever = std::int64_t{1} << 40;  // no sequence is so long

  void grow(std::int64_t length) const;
  void make(Table& table, std::int64_t positions) const;
  std::int64_t count_made(const Table& table) const;

  std::int64_t positions_;
  float scale_;
  std::int64_t after_;  // longer sequences turn in another way
  Growth growth_;       // which is this one, if there are no frequencies for it
  mutable Table near_, far_;
  std::int64_t pairs_;
  mutable std::atomic<std::int64_t> ready_{0};  // sequences of so many positions have their tables
};

}  // namespace aerogel
