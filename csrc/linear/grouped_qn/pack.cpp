#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "linear/blocks.h"
#include "linear/fits.h"
#include "linear/grouped_qn/layout.h"
#include "linear/weight.h"

namespace aerogel {
namespace {

// Bit planes of one quad, number i of its four, into `to`, the bytes of 16 columns, which are 0 so far.
void put_quad(int bits, int i, const std::uint8_t* code, std::uint8_t* to) {
  const int pairs = bits == 6 ? 128 : 0, ones = bits == 3 ? 64 : 128;
  for (int b = 0; b < 32; ++b) {
    const int first = code[b], second = code[b + 32];
    if (bits >= 4) to[32 * i + b] = static_cast<std::uint8_t>((first & 15) | (second & 15) << 4);
    if (bits == 2 || bits == 3 || bits == 6) {
      const int down = bits == 6 ? 4 : 0;
      to[pairs + 32 * (i / 2) + b] |= static_cast<std::uint8_t>(((first >> down & 3) | (second >> down & 3) << 2) << (4 * (i % 2)));
    }
    if (bits == 3 || bits == 5) {
      const int down = bits == 3 ? 2 : 4;
      to[ones + b] |= static_cast<std::uint8_t>(((first >> down & 1) | (second >> down & 1) << 1) << (2 * i));
    }
  }
}

int get_code(int bits, const std::uint8_t* from, int i, int at) {
  const int b = at % 32, half = at / 32;
  const int pairs = bits == 6 ? 128 : 0, ones = bits == 3 ? 64 : 128;
  int code = 0;
  if (bits >= 4) code = from[32 * i + b] >> (4 * half) & 15;
  if (bits == 2 || bits == 3 || bits == 6) code |= (from[pairs + 32 * (i / 2) + b] >> (4 * (i % 2) + 2 * half) & 3) << (bits == 6 ? 4 : 0);
  if (bits == 3 || bits == 5) code |= (from[ones + b] >> (2 * i + half) & 1) << (bits == 3 ? 2 : 4);
  return code;
}

// Stacked rows of one type.
struct PackedPart {
  const BlockType* type;
  GroupedQnPart view{};
  AlignedBuffer<std::uint8_t> codes, submin;
  AlignedBuffer<std::uint16_t> scale, min;
  AlignedBuffer<std::int8_t> sub;

  PackedPart(const BlockType& of, std::int64_t first_row, std::int64_t n, std::int64_t first_unit, std::int64_t k) : type(&of) {
    const std::int64_t units = (n + kQnRows - 1) / kQnRows, groups = k / of.group, blocks = k / of.columns;
    view.first_row = first_row;
    view.n = n;
    view.first_unit = first_unit;
    view.units = units;
    view.group = of.group;
    view.block = of.columns;
    view.group_bytes = of.group / 16 * grouped_qn_bytes16(of.bits);
    view.bits = of.bits;
    // Sums of 5-bit codes fit 16 bits only where the codes are about 0.
    view.centre = of.bits == 8 ? 8 : of.bits == 5 ? 16 : of.zero;
    view.shift = of.bits == 8 ? 0 : view.centre - of.zero;
    view.bf16 = of.bf16;
    view.table = of.levels != nullptr;
    if (view.table) view.centre = 8;
    for (int i = 0; i < 16 && view.table; ++i) {
      view.high[i] = static_cast<std::uint8_t>((of.levels[i] + 128) >> 4);
      view.low[i] = static_cast<std::uint8_t>((of.levels[i] + 128) & 15);
    }
    codes = AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(units * groups * view.group_bytes));
    scale = AlignedBuffer<std::uint16_t>::zeros(static_cast<std::size_t>(units * blocks * kQnRows));
    if (of.mins) min = AlignedBuffer<std::uint16_t>::zeros(static_cast<std::size_t>(units * blocks * kQnRows));
    if (of.subscales) sub = AlignedBuffer<std::int8_t>::zeros(static_cast<std::size_t>(units * groups * kQnRows));
    if (of.subscales && of.mins) submin = AlignedBuffer<std::uint8_t>::zeros(static_cast<std::size_t>(units * groups * kQnRows));
    view.codes = codes.data();
    view.scale = scale.data();
    view.min = min.data();
    view.sub = sub.data();
    view.submin = submin.data();
  }

  // One block of 16 rows, already taken apart.
  void put(std::int64_t unit, std::int64_t block, std::int64_t k, const UnpackedBlock* rows) {
    const std::int64_t blocks = k / view.block, groups = k / view.group;
    const std::int64_t at = (unit * blocks + block) * kQnRows;
    for (std::int64_t r = 0; r < kQnRows; ++r) {
      scale[static_cast<std::size_t>(at + r)] = rows[r].scale;
      if (type->mins) min[static_cast<std::size_t>(at + r)] = rows[r].min;
    }
    for (std::int64_t g = 0; g < type->groups(); ++g) {
      const std::int64_t here = unit * groups + block * type->groups() + g;
      for (std::int64_t r = 0; r < kQnRows && type->subscales; ++r) {
        sub[static_cast<std::size_t>(here * kQnRows + r)] = rows[r].sub[g];
        if (type->mins) submin[static_cast<std::size_t>(here * kQnRows + r)] = rows[r].submin[g];
      }
      std::uint8_t* const to = codes.data() + here * view.group_bytes;
      for (std::int64_t quad = 0; quad < view.group / 4; ++quad) put_codes(rows, static_cast<int>(g * view.group + 4 * quad), quad, to);
    }
  }

  void put_codes(const UnpackedBlock* rows, int column, std::int64_t quad, std::uint8_t* to) {
    std::uint8_t code[64], high[64];
    for (int r = 0; r < kQnRows; ++r) std::memcpy(code + 4 * r, rows[r].code + column, 4);
    const int i = static_cast<int>(quad % 4);
    if (view.bits != 8) return put_quad(view.bits, i, code, to + quad / 4 * grouped_qn_bytes16(view.bits));
    for (int b = 0; b < 64; ++b) {
      high[b] = code[b] >> 4;
      code[b] &= 15;
    }
    put_quad(4, i, high, to + quad / 4 * 128);
    put_quad(4, i, code, to + view.group_bytes / 2 + quad / 4 * 128);
  }

  int code(std::int64_t r, std::int64_t column, std::int64_t k) const {
    const std::int64_t unit = r / kQnRows, g = column / view.group, quad = column % view.group / 4;
    const int i = static_cast<int>(quad % 4), at = static_cast<int>(r % kQnRows * 4 + column % 4);
    const std::uint8_t* from = codes.data() + (unit * (k / view.group) + g) * view.group_bytes;
    if (view.bits != 8) return get_code(view.bits, from + quad / 4 * grouped_qn_bytes16(view.bits), i, at);
    from += quad / 4 * 128;
    return get_code(4, from, i, at) << 4 | get_code(4, from + view.group_bytes / 2, i, at);
  }

  void row(std::int64_t r, std::int64_t k, float* out) const {
    UnpackedBlock block;
    const std::int64_t unit = r / kQnRows, lane = r % kQnRows, blocks = k / view.block, groups = k / view.group;
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<std::size_t>((unit * blocks + g * view.group / view.block) * kQnRows + lane);
      const auto here = static_cast<std::size_t>((unit * groups + g) * kQnRows + lane);
      block.scale = scale[at];
      block.min = type->mins ? min[at] : std::uint16_t{0};
      block.sub[0] = type->subscales ? sub[here] : std::int8_t{1};
      block.submin[0] = type->subscales && type->mins ? submin[here] : std::uint8_t{1};
      const float by = block_scale(*type, block, 0), plus = block_min(*type, block, 0);
      for (std::int64_t c = g * view.group; c < (g + 1) * view.group; ++c) {
        const int index = code(r, c, k);
        const float value = by * static_cast<float>(view.table ? type->levels[index] : index - type->zero);
        out[c] = type->mins ? value + plus : value;
      }
    }
  }

  std::int64_t unit_bytes() const { return static_cast<std::int64_t>(codes.bytes() + scale.bytes() + min.bytes() + sub.bytes() + submin.bytes()) / view.units; }
};

class GroupedQn final : public Weight {
 public:
  using Scratch = std::size_t (*)(std::int64_t k, std::int64_t m);

  GroupedQn(const WeightSource& source, Scratch scratch) : Weight(source.n(), source.k(), source.nonzeros()), scratch_(scratch) {
    const std::string why = refusal_grouped_qn(source);
    if (!why.empty()) throw DataError("grouped_qn: " + why);
    for (std::int64_t first = 0; first < n();) first = add(source, first);
    for (const PackedPart& part : parts_) views_.push_back(part.view);
    view_ = {n(), k(), static_cast<std::int64_t>(views_.size()), views_.data()};
  }

  const void* view() const override { return &view_; }
  std::vector<Bytes> arrays() const override {
    std::vector<Bytes> all;
    for (const PackedPart& part : parts_)
      for (const Bytes& array : {bytes_of(part.codes), bytes_of(part.scale), bytes_of(part.min), bytes_of(part.sub), bytes_of(part.submin)})
        if (array.size != 0) all.push_back(array);
    return all;
  }
  std::int64_t units() const override { return parts_.back().view.first_unit + parts_.back().view.units; }
  std::int64_t cost(std::int64_t unit) const override {
    std::int64_t sum = 0;
    for (const PackedPart& part : parts_) sum += std::clamp<std::int64_t>(unit - part.view.first_unit, 0, part.view.units) * part.unit_bytes();
    return sum;
  }
  std::size_t scratch_bytes(std::int64_t m) const override { return scratch_(k(), m); }
  void row_f32(std::int64_t n, float* out) const override {
    for (const PackedPart& part : parts_)
      if (n < part.view.first_row + part.view.n) return part.row(n - part.view.first_row, k(), out);
  }

 private:
  // Packs the rows from `first` on that have one type; returns where the next ones begin.
  std::int64_t add(const WeightSource& source, std::int64_t first) {
    const BlockType *type = nullptr, *other = nullptr;
    std::vector<const std::uint8_t*> rows{source.row_blocks(first, &type)};
    for (std::int64_t next = first + 1; next < n(); ++next) {
      const std::uint8_t* row = source.row_blocks(next, &other);
      if (other != type) break;
      rows.push_back(row);
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    parts_.emplace_back(*type, first, count, parts_.empty() ? 0 : units(), k());
    std::vector<UnpackedBlock> panel(kQnRows);
    for (std::int64_t unit = 0; unit < parts_.back().view.units; ++unit)
      for (std::int64_t b = 0; b < k() / type->columns; ++b) {
        for (std::int64_t r = 0; r < kQnRows; ++r) {
          const std::int64_t row = unit * kQnRows + r;
          if (row < count) unpack_block(*type, rows[static_cast<std::size_t>(row)] + b * type->bytes, &panel[static_cast<std::size_t>(r)]);
          else std::memset(static_cast<void*>(&panel[static_cast<std::size_t>(r)]), 0, sizeof(UnpackedBlock));
        }
        parts_.back().put(unit, b, k(), panel.data());
      }
    return first + count;
  }

  const Scratch scratch_;
  std::vector<PackedPart> parts_;
  std::vector<GroupedQnPart> views_;
  GroupedQnView view_{};
};

}  // namespace

std::string refusal_grouped_qn(const WeightSource& source) {
  return source.blocks() ? "" : std::string("takes blocks as GGUF files have them, got ") + source.numbers();
}

std::unique_ptr<Weight> pack_grouped_qn_scalar(const WeightSource& source) {
  return std::make_unique<GroupedQn>(source, [](std::int64_t k, std::int64_t) { return static_cast<std::size_t>(k + k / kQnInput * 4); });
}
#if defined(__x86_64__)
std::unique_ptr<Weight> pack_grouped_qn_avx2(const WeightSource& source) {
  return std::make_unique<GroupedQn>(source, [](std::int64_t k, std::int64_t m) { return grouped_qn_scratch_bytes(kGroupedQnAvx2, k, m); });
}
std::unique_ptr<Weight> pack_grouped_qn_avx512vnni(const WeightSource& source) {
  return std::make_unique<GroupedQn>(source, [](std::int64_t k, std::int64_t m) { return grouped_qn_scratch_bytes(kGroupedQnAvx512, k, m); });
}
#endif
#if defined(__aarch64__)
std::unique_ptr<Weight> pack_grouped_qn_neon(const WeightSource& source) {
  return std::make_unique<GroupedQn>(source, [](std::int64_t k, std::int64_t) { return grouped_qn_neon_scratch_bytes(k); });
}
#endif

}  // namespace aerogel
