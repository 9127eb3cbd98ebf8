// Weights: what a packer reads (WeightSource) and what it makes (Weight).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "linear/blocks.h"

namespace aerogel {

// Canonical, ISA-neutral weights w[N,K], as they stand in a checkpoint or a packed model. Borrows its arrays: they
// must outlive the packing, nothing longer. Parts are stacked along N, so that Q, K and V become one linear.
class WeightSource {
 public:
  // One stacked part: float, bf16 or f16 values, int8 codes, indices of a table of int8 levels, or blocks as in a GGUF file; dense, or,
  // but for blocks, only what is stored behind a bit mask (the rest is 0; what is stored may be 0 too).
  //
  // Codes have a float scale each row; q8 with group > 0 has one each group of a row instead. Indices decode to int8 codes exactly:
  //
  //   code[n,k] = (levels[index[n,k]] - zero[n,g]) * multiplier[n,g] + offset[n,g]    g = k / group, in [-127, 127]
  //   w = code * scale[n]
  //
  // so that every int8 kernel runs them. Two-level scales are QServe's (arXiv 2405.04532), the table alone is a codebook.
  struct Part {
    std::int64_t rows = 0;
    const float* f32 = nullptr;          // values, or null
    const std::uint16_t* bf16 = nullptr; // values, or null
    const std::uint16_t* f16 = nullptr;  // values, or null
    const std::int8_t* q8 = nullptr;     // codes, or null
    const std::uint8_t* blocks = nullptr;    // [rows, K / columns of a block] blocks, or null
    const BlockType* block_type = nullptr;   // blocks only
    const std::uint8_t* index = nullptr; // or null: `index_bits` each, least significant first, in storage order. Dense: each row
                                         // starts on a byte; behind a mask: one stream without gaps. 4 bits: low nibble first
    int index_bits = 0;                  // 1 to 8
    std::vector<std::int8_t> levels;     // what an index stands for: up to 2^index_bits
    const std::uint8_t* multiplier = nullptr;  // [rows, groups], index only; null: 1
    const std::int8_t* zero = nullptr;         // [rows, groups], index only; null: 0
    const std::int8_t* offset = nullptr;       // [rows, groups], index only; null: 0
    std::int64_t group = 0;              // columns a group, a multiple of 8; the last one may have fewer. 0: a row is one group
    const float* scale = nullptr;        // [rows], q8 and index; [rows, groups] of q8 with a group
    const std::uint8_t* mask = nullptr;  // [rows, ceil(K/8)], bit k%8 of byte k/8 is column k; null: dense
    std::vector<std::int64_t> row_begin; // [rows + 1], first value of each row; made by add() when there is a mask
  };

  // A row of 4-bit indices, as a packer takes it apart.
  struct RowQ4 {
    const std::int8_t* levels;        // of `count`, at most 16
    int count;
    std::int64_t group;               // columns a group; K where a row is one
    const std::uint8_t* multiplier;   // [groups] of this row, null: 1
    const std::int8_t* zero;          // [groups] of this row, null: 0
    const std::int8_t* offset;        // [groups] of this row, null: 0
    float scale;
  };
  static constexpr std::uint8_t kNotStored = 0xff;  // in place of an index: the mask leaves this column out

  explicit WeightSource(std::int64_t k);

  // Checks everything that kernels trust and throws DataError or ShapeError, with `name` in the message: values and
  // scales finite, codes in [-127, 127] (decoded ones too), indices below the number of levels, mask bits beyond K clear, `values`
  // (elements of the array of values; bytes of indices or blocks) as many as the shape or the mask asks for. Stacked parts: all float, all
  // bf16, all f16, all int8 with a scale each row (codes and indices may mix), all int8 with a scale each group of the same size, or all
  // blocks (of any types).
  void add(const std::string& name, Part part, std::int64_t values);

  // `rows` of the rows, in runs of `run` that lie evenly over all of them; rows is a multiple of run. Borrows the same arrays.
  WeightSource spread(std::int64_t rows, std::int64_t run) const;

  std::int64_t n() const { return n_; }
  std::int64_t k() const { return k_; }
  bool quantized() const { return kind_ == Kind::q8; }     // int8 codes, or what decodes to them, with a scale each row
  bool bf16() const { return kind_ == Kind::bf16; }
  bool f16() const { return kind_ == Kind::f16; }
  bool grouped() const { return kind_ == Kind::grouped; }  // int8 codes with a scale each group
  bool blocks() const { return kind_ == Kind::blocks; }    // as in a GGUF file
  const char* numbers() const;                             // "int8", "bf16", "float16", "float32", "blocks", or "int8g" if grouped
  std::int64_t group() const { return group_; }            // grouped only: columns a group
  bool four_bit() const;                                   // every part has indices of at most 16 levels, at least one part is there
  std::int64_t nonzeros() const { return nonzeros_; }  // values that are not zero
  double sparsity() const;

  // Row n, decoded to K elements. row_q8 needs quantized(), row_f16 f16(), row_q8g grouped() (and gives ceil(K/group) scales too), row_q4
  // four_bit() (kNotStored where the mask has no value); the others work for all (codes times scale). row_bf16 rounds what is
  // not bf16 to the nearest, ties to even.
  void row_q8(std::int64_t n, std::int8_t* out) const;
  void row_bf16(std::int64_t n, std::uint16_t* out) const;
  void row_f16(std::int64_t n, std::uint16_t* out) const;
  void row_f32(std::int64_t n, float* out) const;
  void row_q8g(std::int64_t n, std::int8_t* codes, float* scales) const;
  RowQ4 row_q4(std::int64_t n, std::uint8_t* index) const;
  const std::uint8_t* row_blocks(std::int64_t n, const BlockType** type) const;  // blocks() only
  float scale(std::int64_t n) const;  // quantized() only

 private:
  enum class Kind { f32, bf16, f16, q8, grouped, blocks };
  const Part& part_of(std::int64_t n, std::int64_t* row) const;

  std::int64_t n_ = 0, k_ = 0, nonzeros_ = 0, group_ = 0;
  Kind kind_ = Kind::f32;
  std::vector<Part> parts_;
};

// Packed weights: immutable once made, shared between threads.
// Memory of an array.
struct Bytes {
  const void* data;
  std::size_t size;
};

template <class T>
Bytes bytes_of(const AlignedBuffer<T>& buffer) {
  return {buffer.data(), buffer.bytes()};
}

class Weight {
 public:
  Weight(std::int64_t n, std::int64_t k, std::int64_t nonzeros) : n_(n), k_(k), nonzeros_(nonzeros) {}
  virtual ~Weight() = default;
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  std::int64_t n() const { return n_; }
  std::int64_t k() const { return k_; }
  std::int64_t nonzeros() const { return nonzeros_; }
  std::size_t bytes() const {                    // resident, all arrays together
    std::size_t sum = 0;
    for (const Bytes& array : arrays()) sum += array.size;
    return sum;
  }

  virtual const void* view() const = 0;          // the format's View, as its kernels expect it
  virtual std::vector<Bytes> arrays() const = 0; // all memory that the weights lie in
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
