// Weights: what a packer reads (WeightSource) and what it makes (Weight).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/aligned.h"

namespace aerogel {

// Canonical, ISA-neutral weights w[N,K], as they stand in a checkpoint or a packed model. Borrows its arrays: they
// must outlive the packing, nothing longer. Parts are stacked along N, so that Q, K and V become one linear.
class WeightSource {
 public:
  // One stacked part. Values are float, bf16, or int8 codes with one scale per row; dense, or only the nonzeros behind a bit mask.
  struct Part {
    std::int64_t rows = 0;
    const float* f32 = nullptr;          // values, or null
    const std::uint16_t* bf16 = nullptr; // values, or null
    const std::int8_t* q8 = nullptr;     // codes, or null
    const float* scale = nullptr;        // [rows], q8 only
    const std::uint8_t* mask = nullptr;  // [rows, ceil(K/8)], bit k%8 of byte k/8 is column k; null: dense
    std::vector<std::int64_t> row_begin; // [rows + 1], first value of each row; made by add() when there is a mask
  };

  explicit WeightSource(std::int64_t k);

  // Checks everything that kernels trust and throws DataError or ShapeError, with `name` in the message: values and
  // scales finite, codes in [-127, 127], mask bits beyond K clear, `values` (number of stored values) equal to the bits set.
  void add(const std::string& name, Part part, std::int64_t values);

  std::int64_t n() const { return n_; }
  std::int64_t k() const { return k_; }
  bool quantized() const { return quantized_; }  // int8 codes
  bool bf16() const { return bf16_; }
  const char* numbers() const { return quantized_ ? "int8" : bf16_ ? "bf16" : "float32"; }
  std::int64_t nonzeros() const { return nonzeros_; }  // values that are not zero
  double sparsity() const;

  // Row n, decoded to K elements. row_q8 needs quantized(), the others work for all (codes times scale); row_bf16 rounds what
  // is not bf16 to the nearest, ties to even.
  void row_q8(std::int64_t n, std::int8_t* out) const;
  void row_bf16(std::int64_t n, std::uint16_t* out) const;
  void row_f32(std::int64_t n, float* out) const;
  float scale(std::int64_t n) const;  // q8 only

 private:
  const Part& part_of(std::int64_t n, std::int64_t* row) const;

  std::int64_t n_ = 0, k_ = 0, nonzeros_ = 0;
  bool quantized_ = false, bf16_ = false;
  std::vector<Part> parts_;
};

// Packed weights: immutable once made, shared between threads.
class Weight {
 public:
  Weight(std::int64_t n, std::int64_t k, std::int64_t nonzeros) : n_(n), k_(k), nonzeros_(nonzeros) {}
  virtual ~Weight() = default;
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  std::int64_t n() const { return n_; }
  std::int64_t k() const { return k_; }
  std::int64_t nonzeros() const { return nonzeros_; }

  virtual const void* view() const = 0;          // the format's View, as its kernels expect it
  virtual std::size_t bytes() const = 0;         // resident, all arrays together
  virtual std::int64_t units() const = 0;        // independent groups of output rows
  // Work of units [0, unit), in any one measure; cost(0) = 0. The runtime balances threads by it.
  virtual std::int64_t cost(std::int64_t unit) const = 0;
  // What any call with up to m tokens needs in LinearTask::scratch: never less for a larger m.
  virtual std::size_t scratch_bytes(std::int64_t m) const = 0;
  // Row n decoded to K floats (code times scale): exact, slow; for tests, tied embeddings and explanations.
  virtual void row_f32(std::int64_t n, float* out) const = 0;

 private:
  std::int64_t n_, k_, nonzeros_;
};

using LinearPack = std::unique_ptr<Weight> (*)(const WeightSource& source);

}  // namespace aerogel
