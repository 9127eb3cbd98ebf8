// grouped_qn on AVX-512 VNNI: vpdpbusd of the codes, unsigned bytes, and x. Its int32 sums start with -centre * sum x. Codes of 8 bits
// and levels need no second pass here: they are unsigned bytes about 128.
//
// Bound: for 12 tokens x 16 rows x 32 columns 96 vpdpbusd with x broadcast from memory, and 60 instructions to turn sums into floats.
// One token: 4 to 7 instructions for 64 weights, and 8 a group.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own _mm512_undefined_epi32

#include <immintrin.h>

#include "linear/grouped_qn/layout.h"
#include "linear/grouped_qn/run.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr GroupedQnTiling kTiling = kGroupedQnAvx512;
constexpr std::int64_t kTile = kTiling.tile;
constexpr std::int64_t kStride = kTiling.stride;
constexpr std::int64_t kRows = kQnRows;
constexpr std::int64_t kPrefetchBytes = 16 * 1024;

// A loop left rolled would keep the accumulators in memory.
#define UNROLL _Pragma("GCC unroll 16")

struct Four {
  std::int8_t k[4];
};

inline __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
inline __m512i both_of(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

// As an intrinsic GCC 12 copies registers around it.
inline void multiply_add(__m512i& sum, __m512i codes, const Four* x) {
  __m512i a;
  __asm__(
      "vpbroadcastd %[x], %[a]\n\t"
      "vpdpbusd %[a], %[w], %[sum]"
      : [sum] "+v"(sum), [a] "=&v"(a)
      : [w] "v"(codes), [x] "m"(*x));
}

// Fields of `Bits` bits from `From` on in the bytes of v, and those from `From` + `Step` on, at bit `To`: 16 rows.
template <int From, int Step, int To, int Bits>
inline __m512i fields(__m256i v) {
  const auto one = [](__m256i of, int from) __attribute__((always_inline)) {
    const __m256i moved = from > To ? _mm256_srli_epi16(of, from > To ? from - To : 0) : _mm256_slli_epi16(of, from > To ? 0 : To - from);
    return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(((1 << Bits) - 1) << To)));
  };
  return both_of(one(v, From), one(v, From + Step));
}

// Where a tile takes codes from, 16 columns after the other: enter(), quad<0>() .. quad<3>(). With Keep each is also stored.
template <int Bits, bool Keep>
struct Planes {
  const std::uint8_t* at;
  std::uint8_t* bytes;
  __m512i levels;     // of a table
  bool table;
  int sixteen = 0;    // of a group of 8 bits

  __m256i pairs[2], ones;

  void enter() {
    _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes), _MM_HINT_T0);
    if (Bits >= 4) _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes + 64), _MM_HINT_T0);
    constexpr int kPairs = Bits == 6 ? 128 : 0, kOnes = Bits == 3 ? 64 : 128;
    if (Bits == 2 || Bits == 3 || Bits == 6) {
      pairs[0] = load(at + kPairs);
      pairs[1] = load(at + kPairs + 32);
    }
    if (Bits == 3 || Bits == 5) ones = load(at + kOnes);
  }
  template <int I>
  __m512i quad() {
    __m512i made{};
    constexpr int kPair = I % 2 * 4;
    if (Bits >= 4) made = fields<0, 4, 0, 4>(load(at + 32 * I));
    if (Bits == 2 || Bits == 3) made = fields<kPair, 2, 0, 2>(pairs[I / 2]);
    if (Bits == 6) made = _mm512_or_si512(made, fields<kPair, 2, 4, 2>(pairs[I / 2]));
    if (Bits == 3 || Bits == 5) made = _mm512_or_si512(made, fields<2 * I, 1, Bits == 3 ? 2 : 4, 1>(ones));
    if (Bits == 8) made = _mm512_or_si512(_mm512_slli_epi16(made, 4), fields<0, 4, 0, 4>(load(at + 256 + 32 * I)));
    if (Bits == 4 && table) made = _mm512_shuffle_epi8(levels, made);
    if (Keep) {
      _mm512_store_si512(bytes, made);
      bytes += 64;
    }
    if (I == 3) leave();
    return made;
  }
  void leave() {
    if (Bits != 8) {
      at += 32 * Bits;
    } else {  // the nibbles h of a group of 32 columns, then its nibbles l
      at += sixteen == 0 ? 128 : 384;
      sixteen ^= 1;
    }
  }
};

// One in a byte.
struct Bytes {
  const std::uint8_t* at;

  void enter() {}
  template <int I>
  __m512i quad() {
    const __m512i read = _mm512_load_si512(at);
    at += 64;
    return read;
  }
};

// What a tile reads of its tokens, from the first group of the chunk on; the steps between tokens.
struct Inputs {
  const std::int8_t* x;       // kStride
  const float* scale;         // every 32 columns
  const std::int32_t* sums;   // every 16 columns
  const float* shift;         // a group: float(sum of x) * scale
  std::int64_t scale_step, sums_step, shift_step;
};

// total[T, 16] (+)= a chunk. scale, min: [groups, 16]; min null: none.
template <int T, int Group, class Codes>
void tile(Codes& codes, const Inputs& in, std::int64_t columns, const float* scale, const float* min, int centre, float* total,
          bool accumulate) {
  Codes from = codes;  // in registers
  const std::int8_t* x = in.x;
  const float *x_scale = in.scale, *shift = in.shift;
  const std::int32_t* sums = in.sums;
  const __m512i less = _mm512_set1_epi32(-centre);
  __m512 all[T];
  UNROLL for (int t = 0; t < T; ++t) all[t] = accumulate ? _mm512_load_ps(total + t * kRows) : _mm512_setzero_ps();
  for (std::int64_t k = 0; k < columns; k += Group, x += Group, sums += Group / 16, ++shift, scale += kRows) {
    __m512i sum[T];
    UNROLL for (int t = 0; t < T; ++t) {
      __m512i sum_x = _mm512_set1_epi32(sums[t * in.sums_step]);
      if (Group == 32) sum_x = _mm512_add_epi32(sum_x, _mm512_set1_epi32(sums[t * in.sums_step + 1]));
      sum[t] = _mm512_mullo_epi32(sum_x, less);
    }
    UNROLL for (int sixteen = 0; sixteen < Group / 16; ++sixteen) {
      from.enter();
      const auto step = [&](__m512i quad, int column) __attribute__((always_inline)) {
        UNROLL for (int t = 0; t < T; ++t) multiply_add(sum[t], quad, reinterpret_cast<const Four*>(x + t * kStride + 16 * sixteen + column));
      };
      step(from.template quad<0>(), 0);
      step(from.template quad<1>(), 4);
      step(from.template quad<2>(), 8);
      step(from.template quad<3>(), 12);
    }
    const __m512 by = _mm512_load_ps(scale);
    UNROLL for (int t = 0; t < T; ++t) {
      const __m512 step = _mm512_set1_ps(x_scale[t * in.scale_step]);
      all[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t]), _mm512_mul_ps(by, step), all[t]);
    }
    if (min != nullptr) {
      const __m512 plus = _mm512_load_ps(min);
      min += kRows;
      UNROLL for (int t = 0; t < T; ++t) all[t] = _mm512_fmadd_ps(plus, _mm512_set1_ps(shift[t * in.shift_step]), all[t]);
    }
    if (Group == 32 || (k & 16) != 0) ++x_scale;
  }
  UNROLL for (int t = 0; t < T; ++t) _mm512_store_ps(total + t * kRows, all[t]);
  codes = from;
}

template <int Group, class Codes>
void tile_of(std::int64_t tokens, Codes& codes, const Inputs& in, std::int64_t columns, const float* scale, const float* min, int centre,
             float* total, bool accumulate) {
  switch (tokens) {
    case 1: return tile<1, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 2: return tile<2, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 3: return tile<3, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 4: return tile<4, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 5: return tile<5, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 6: return tile<6, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 7: return tile<7, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 8: return tile<8, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 9: return tile<9, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 10: return tile<10, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    case 11: return tile<11, Group>(codes, in, columns, scale, min, centre, total, accumulate);
    default: return tile<12, Group>(codes, in, columns, scale, min, centre, total, accumulate);
  }
}

// 32 floats to codes, as the op quantize makes them of a row.
void quantize32(const float* x, std::int8_t* q, float* scale) {
  const __m512 first = _mm512_loadu_ps(x), second = _mm512_loadu_ps(x + 16);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i largest = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(first), magnitude),
                                           _mm512_and_si512(_mm512_castps_si512(second), magnitude));
  const int bits = _mm512_reduce_max_epi32(largest);
  float top;
  __builtin_memcpy(&top, &bits, sizeof top);
  const float inverse = 127.0f / top;
  const bool poison = bits >= 0x7f800000;
  if (poison || !(inverse <= 3.402823466e38f)) {
    *scale = poison ? __builtin_nanf("") : 0.0f;
    _mm256_store_si256(reinterpret_cast<__m256i*>(q), _mm256_setzero_si256());
    return;
  }
  *scale = top / 127.0f;
  const __m512 factor = _mm512_set1_ps(inverse);
  _mm_store_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(first, factor))));
  _mm_store_si128(reinterpret_cast<__m128i*>(q + 16), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(second, factor))));
}

std::int32_t sum16(const std::int8_t* q) {
  const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(q));
  __m128i four = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), bytes);
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return _mm_cvtsi128_si32(four);
}

// The tokens of a block, quantized.
struct Copies {
  std::int8_t* x;       // [chunks, held, kStride]
  float* scale;         // [held, K/32]
  std::int32_t* sums;   // [held, K/16]
  float* shift16;       // [held, K/16]
  float* shift32;       // [held, K/32]
  std::int64_t held, chunk, k;

  void fill(const float* from, std::int64_t t) const {
    float* const scales = scale + t * (k / 32);
    for (std::int64_t c = 0; c < k; c += 32) {
      std::int8_t* const to = x + (c / chunk * held + t) * kStride + c % chunk;
      quantize32(from + c, to, scales + c / 32);
      const std::int32_t first = sum16(to), second = sum16(to + 16);
      const float step = scales[c / 32];
      std::int32_t* const two = sums + t * (k / 16) + c / 16;
      float* const shifts = shift16 + t * (k / 16) + c / 16;
      two[0] = first;
      two[1] = second;
      shifts[0] = static_cast<float>(first) * step;
      shifts[1] = static_cast<float>(second) * step;
      shift32[t * (k / 32) + c / 32] = static_cast<float>(first + second) * step;
    }
  }
};

// Scales and minima of the groups [first, end) of a unit as floats [groups, 16].
void expand(const GroupedQnPart& w, std::int64_t k, std::int64_t unit, std::int64_t first, std::int64_t end, float* scale, float* min) {
  const __m512 shift = _mm512_set1_ps(static_cast<float>(w.shift)), sign = _mm512_set1_ps(-0.0f);
  const std::int64_t blocks = k / w.block, groups = k / w.group;
  for (std::int64_t g = first; g < end; ++g, scale += kRows, min += kRows) {
    const std::int64_t block = (unit * blocks + g * w.group / w.block) * kRows, here = (unit * groups + g) * kRows;
    const __m256i bits = load(w.scale + block);
    __m512 by = w.bf16 ? _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)) : _mm512_cvtph_ps(bits);
    if (w.sub != nullptr)
      by = _mm512_mul_ps(by, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(w.sub + here)))));
    _mm512_store_ps(scale, by);
    if (w.min == nullptr) continue;
    __m512 plus = _mm512_cvtph_ps(load(w.min + block));
    if (w.submin != nullptr) {
      const __m512i small = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(w.submin + here)));
      plus = _mm512_xor_ps(_mm512_mul_ps(plus, _mm512_cvtepi32_ps(small)), sign);
    }
    _mm512_store_ps(min, _mm512_add_ps(plus, _mm512_mul_ps(by, shift)));
  }
}

// Totals of a panel to y.
void finish(const LinearTask& task, const GroupedQnPart& w, std::int64_t unit, std::int64_t first_token, std::int64_t tokens,
            const float* total) {
  const std::int64_t left = w.n - unit * kRows, n = w.first_row + unit * kRows;
  const auto rows = static_cast<__mmask16>(left < 16 ? (1 << left) - 1 : 0xffff);
  const __m512 bias = task.bias != nullptr ? _mm512_maskz_loadu_ps(rows, task.bias + n) : _mm512_setzero_ps();
  for (std::int64_t t = 0; t < tokens; ++t) {
    __m512 value = _mm512_load_ps(total + t * kRows);
    if (task.bias != nullptr) value = _mm512_add_ps(value, bias);
    _mm512_mask_storeu_ps(task.y + (first_token + t) * task.ldy + n, rows, value);
  }
}

// What a block of tokens is run with.
struct Block {
  const LinearTask& task;
  const GroupedQnView& w;
  Copies copies;
  std::uint8_t* bytes;
  float *scale, *min, *total;
  std::int64_t first, tokens;

  // All tiles of a panel's chunk, whose codes begin at `codes`.
  template <int Group, int Bits>
  void chunk_of(const GroupedQnPart& part, const std::uint8_t* codes, const Inputs& in, std::int64_t columns, bool accumulate) const {
    const float* const minima = part.min == nullptr ? nullptr : min;
    const int centre = Bits == 8 || part.table ? 128 : part.centre;
    __m512i levels = _mm512_setzero_si512();
    if (part.table) {
      const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(part.high)), low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(part.low));
      levels = _mm512_broadcast_i32x4(_mm_or_si128(_mm_slli_epi16(high, 4), low));
    }
    const std::int64_t count = (tokens + kTile - 1) / kTile;
    for (std::int64_t i = 0, t = 0; i < count; ++i) {
      const std::int64_t next = tokens * (i + 1) / count;  // tiles differ by one token at most
      const Inputs here = {in.x + t * kStride, in.scale + t * in.scale_step, in.sums + t * in.sums_step, in.shift + t * in.shift_step,
                           in.scale_step, in.sums_step, in.shift_step};
      float* const to = total + t * kRows;
      if (count == 1) {
        Planes<Bits, false> read{codes, nullptr, levels, part.table, 0, {}, {}};
        tile_of<Group>(next, read, here, columns, scale, minima, centre, to, accumulate);
      } else if (i == 0) {
        Planes<Bits, true> keep{codes, bytes, levels, part.table, 0, {}, {}};
        tile_of<Group>(next, keep, here, columns, scale, minima, centre, to, accumulate);
      } else {
        Bytes ready{bytes};
        tile_of<Group>(next - t, ready, here, columns, scale, minima, centre, to, accumulate);
      }
      t = next;
    }
  }

  void panel(const GroupedQnPart& part, std::int64_t unit) const {
    const std::int64_t k = w.k, chunk = copies.chunk, groups = k / part.group;
    for (std::int64_t c = 0, begin = 0; begin < k; ++c, begin += chunk) {
      const std::int64_t columns = k - begin < chunk ? k - begin : chunk, group = begin / part.group;
      expand(part, k, unit, group, group + columns / part.group, scale, min);
      const Inputs in = {copies.x + c * copies.held * kStride,
                         copies.scale + begin / 32,
                         copies.sums + begin / 16,
                         (part.group == 32 ? copies.shift32 : copies.shift16) + group,
                         k / 32, k / 16, groups};
      const std::uint8_t* codes = part.codes + (unit * groups + group) * part.group_bytes;
      switch (part.bits) {
        case 2: chunk_of<16, 2>(part, codes, in, columns, c != 0); break;
        case 3: chunk_of<16, 3>(part, codes, in, columns, c != 0); break;
        case 4: chunk_of<32, 4>(part, codes, in, columns, c != 0); break;
        case 5: chunk_of<32, 5>(part, codes, in, columns, c != 0); break;
        case 6: chunk_of<16, 6>(part, codes, in, columns, c != 0); break;
        default: chunk_of<32, 8>(part, codes, in, columns, c != 0); break;
      }
    }
    finish(task, part, unit, first, tokens, total);
  }
};

}  // namespace

void run_grouped_qn_avx512vnni(const LinearTask& task) { run_panels<Copies, Block>(task, kTiling); }

#undef UNROLL

}  // namespace aerogel
