// grouped_qn on AVX2: vpmaddubsw of small unsigned codes and x, whose 16-bit sums live as long as a group.
//
// A pair of products is at most 2 * 63 * 127, far from where vpmaddubsw saturates, and a group's 16-bit sums of codes about their
// centre fit: 16 products a lane of at most 16 * 127 (8 of at most 32 * 127 where codes have 6 bits). They start with -centre * sum x
// modulo 2^16, as in dense_q4, and one vpmaddwd joins the two lanes of a row. Codes of 8 bits and levels are two nibbles, one after
// the other: (sum of h) * 16 + (sum of l), exact in int32.
//
// Bound: for 6 tokens x 16 rows x 32 columns of nibbles 96 vpmaddubsw and 96 vpaddw, 50 broadcasts, and 72 instructions to turn sums
// into floats; with 8 bits or levels twice the former. One token: about 90 instructions for 512 weights of 4 bits.
#include <immintrin.h>

#include "linear/grouped_qn/layout.h"
#include "linear/grouped_qn/run.h"
#include "linear/linear.h"

namespace aerogel {
namespace {

constexpr GroupedQnTiling kTiling = kGroupedQnAvx2;
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
inline void store(void* p, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }

// 16-bit sums of 16 rows += code[16, 4] . x[4]. As intrinsics, GCC 12 computes the products of all tokens first and spills.
inline void multiply_add(__m256i& low, __m256i& high, __m256i w_low, __m256i w_high, const Four* x) {
  __m256i a, b;
  __asm__(
      "vpbroadcastd %[x], %[b]\n\t"
      "vpmaddubsw %[b], %[w0], %[a]\n\t"
      "vpmaddubsw %[b], %[w1], %[b]\n\t"
      "vpaddw %[a], %[low], %[low]\n\t"
      "vpaddw %[b], %[high], %[high]"
      : [low] "+x"(low), [high] "+x"(high), [a] "=&x"(a), [b] "=&x"(b)
      : [w0] "x"(w_low), [w1] "x"(w_high), [x] "m"(*x));
}

// Four columns of rows 0 .. 7 and of rows 8 .. 15.
struct Quad {
  __m256i low, high;
};

// The bits of `v` from `From` on, `Bits` of them, at bit `To` of each byte.
template <int From, int To, int Bits>
inline __m256i field(__m256i v) {
  const __m256i moved = From > To ? _mm256_srli_epi16(v, From > To ? From - To : 0) : _mm256_slli_epi16(v, From > To ? 0 : To - From);
  return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(((1 << Bits) - 1) << To)));
}

// Where a tile takes codes from, 16 columns after the other: enter(), quad<0>() .. quad<3>(). With Keep each is also stored as a byte.
template <int Bits, bool Keep>
struct Planes {
  static constexpr std::int64_t kBytes = 32 * Bits;
  const std::uint8_t* at;
  std::uint8_t* bytes;
  __m256i pairs[2], ones;

  void group(int) {}
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
  Quad quad() {
    Quad made{};
    constexpr int kPair = I % 2 * 4;
    if (Bits >= 4) {
      const __m256i both = load(at + 32 * I);
      made = {field<0, 0, 4>(both), field<4, 0, 4>(both)};
    }
    if (Bits == 2 || Bits == 3) made = {field<kPair, 0, 2>(pairs[I / 2]), field<kPair + 2, 0, 2>(pairs[I / 2])};
    if (Bits == 6) {
      made.low = _mm256_or_si256(made.low, field<kPair, 4, 2>(pairs[I / 2]));
      made.high = _mm256_or_si256(made.high, field<kPair + 2, 4, 2>(pairs[I / 2]));
    }
    if (Bits == 3 || Bits == 5) {
      constexpr int kTo = Bits == 3 ? 2 : 4;
      made.low = _mm256_or_si256(made.low, field<2 * I, kTo, 1>(ones));
      made.high = _mm256_or_si256(made.high, field<2 * I + 1, kTo, 1>(ones));
    }
    if (Keep) {
      store(bytes, made.low);
      store(bytes + 32, made.high);
      bytes += 64;
    }
    if (I == 3) at += kBytes;
    return made;
  }
};

// Nibbles that are indices: the levels' high nibbles in the first pass over a group, their low ones in the second.
template <bool Keep>
struct Levels {
  const std::uint8_t* at;
  std::uint8_t* bytes;
  __m256i high, low, levels;

  void group(int pass) {
    levels = pass == 0 ? high : low;
    if (pass == 1) at -= 2 * 128;
  }
  void enter() {
    _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes + 64), _MM_HINT_T0);
  }
  template <int I>
  Quad quad() {
    const __m256i both = load(at + 32 * I);
    const Quad made = {_mm256_shuffle_epi8(levels, field<0, 0, 4>(both)), _mm256_shuffle_epi8(levels, field<4, 0, 4>(both))};
    if (Keep) {
      store(bytes, made.low);
      store(bytes + 32, made.high);
      bytes += 64;
    }
    if (I == 3) at += 128;
    return made;
  }
};

// One in a byte.
struct Bytes {
  const std::uint8_t* at;

  void group(int) {}
  void enter() {}
  template <int I>
  Quad quad() {
    const Quad read = {load(at), load(at + 32)};
    at += 64;
    return read;
  }
};

// What a tile reads of its tokens, from the first group of the chunk on; the steps between tokens.
struct Inputs {
  const std::int8_t* x;       // kStride
  const float* scale;         // every 32 columns
  const std::int32_t* sums;   // every 16 columns: two int16, of columns 0 and 1 and of columns 2 and 3 of every four
  const float* shift;         // a group: float(sum of x) * scale
  std::int64_t scale_step, sums_step, shift_step;
};

// total[T, 16] (+)= a chunk. scale, min: [groups, 16]; min null: none.
template <int T, int Group, int Passes, class Codes>
void tile(Codes& codes, const Inputs& in, std::int64_t columns, const float* scale, const float* min, int centre, float* total,
          bool accumulate) {
  Codes from = codes;  // in registers
  const std::int8_t* x = in.x;
  const float *x_scale = in.scale, *shift = in.shift;
  const std::int32_t* sums = in.sums;
  const __m256i one = _mm256_set1_epi16(1), off = _mm256_set1_epi16(static_cast<std::int16_t>(-centre));
  if (!accumulate)
    for (int t = 0; t < T; ++t) {
      _mm256_store_ps(total + t * kRows, _mm256_setzero_ps());
      _mm256_store_ps(total + t * kRows + 8, _mm256_setzero_ps());
    }
  for (std::int64_t k = 0; k < columns; k += Group, x += Group, sums += Group / 16, ++shift, scale += kRows) {
    __m256i low[T], high[T], held[2 * T];
    UNROLL for (int pass = 0; pass < Passes; ++pass) {
      UNROLL for (int t = 0; t < T; ++t) {
        __m256i sum = _mm256_setzero_si256();
        if (pass == 0) {
          sum = _mm256_set1_epi32(sums[t * in.sums_step]);
          if (Group == 32) sum = _mm256_add_epi16(sum, _mm256_set1_epi32(sums[t * in.sums_step + 1]));
          sum = _mm256_mullo_epi16(sum, off);
        }
        low[t] = high[t] = sum;
      }
      from.group(pass);
      UNROLL for (int sixteen = 0; sixteen < Group / 16; ++sixteen) {
        from.enter();
        const auto step = [&](const Quad& quad, int column) __attribute__((always_inline)) {
          UNROLL for (int t = 0; t < T; ++t)
            multiply_add(low[t], high[t], quad.low, quad.high, reinterpret_cast<const Four*>(x + t * kStride + 16 * sixteen + column));
        };
        step(from.template quad<0>(), 0);
        step(from.template quad<1>(), 4);
        step(from.template quad<2>(), 8);
        step(from.template quad<3>(), 12);
      }
      if (pass + 1 < Passes)
        UNROLL for (int t = 0; t < T; ++t) {
          held[2 * t] = _mm256_madd_epi16(low[t], _mm256_set1_epi16(16));
          held[2 * t + 1] = _mm256_madd_epi16(high[t], _mm256_set1_epi16(16));
        }
    }
    const __m256 scale_low = _mm256_load_ps(scale), scale_high = _mm256_load_ps(scale + 8);
    UNROLL for (int t = 0; t < T; ++t) {
      __m256i first = _mm256_madd_epi16(low[t], one), second = _mm256_madd_epi16(high[t], one);
      if (Passes == 2) {
        first = _mm256_add_epi32(first, held[2 * t]);
        second = _mm256_add_epi32(second, held[2 * t + 1]);
      }
      float* const to = total + t * kRows;
      const __m256 step = _mm256_broadcast_ss(x_scale + t * in.scale_step);
      _mm256_store_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(first), _mm256_mul_ps(scale_low, step), _mm256_load_ps(to)));
      _mm256_store_ps(to + 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(second), _mm256_mul_ps(scale_high, step), _mm256_load_ps(to + 8)));
    }
    if (min != nullptr) {
      const __m256 min_low = _mm256_load_ps(min), min_high = _mm256_load_ps(min + 8);
      min += kRows;
      UNROLL for (int t = 0; t < T; ++t) {
        float* const to = total + t * kRows;
        const __m256 sum = _mm256_broadcast_ss(shift + t * in.shift_step);
        _mm256_store_ps(to, _mm256_fmadd_ps(min_low, sum, _mm256_load_ps(to)));
        _mm256_store_ps(to + 8, _mm256_fmadd_ps(min_high, sum, _mm256_load_ps(to + 8)));
      }
    }
    if (Group == 32 || (k & 16) != 0) ++x_scale;
  }
  codes = from;
}

template <int Group, int Passes, class Codes>
void tile_of(std::int64_t tokens, Codes& codes, const Inputs& in, std::int64_t columns, const float* scale, const float* min, int centre,
             float* total, bool accumulate) {
  switch (tokens) {
    case 1: return tile<1, Group, Passes>(codes, in, columns, scale, min, centre, total, accumulate);
    case 2: return tile<2, Group, Passes>(codes, in, columns, scale, min, centre, total, accumulate);
    case 3: return tile<3, Group, Passes>(codes, in, columns, scale, min, centre, total, accumulate);
    case 4: return tile<4, Group, Passes>(codes, in, columns, scale, min, centre, total, accumulate);
    case 5: return tile<5, Group, Passes>(codes, in, columns, scale, min, centre, total, accumulate);
    default: return tile<6, Group, Passes>(codes, in, columns, scale, min, centre, total, accumulate);
  }
}

// 32 floats to codes, as the op quantize makes them of a row.
void quantize32(const float* x, std::int8_t* q, float* scale) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256 v[4];
  __m256i largest = _mm256_setzero_si256();
  UNROLL for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
  }
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  const float top = _mm_cvtss_f32(_mm_castsi128_ps(most)), inverse = 127.0f / top;
  const bool poison = _mm_cvtsi128_si32(most) >= 0x7f800000;
  if (poison || !(inverse <= 3.402823466e38f)) {
    *scale = poison ? __builtin_nanf("") : 0.0f;
    store(q, _mm256_setzero_si256());
    return;
  }
  *scale = top / 127.0f;
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i codes[4];
  UNROLL for (int i = 0; i < 4; ++i) codes[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], factor));
  const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
  store(q, _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
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
    const __m256i ones = _mm256_set1_epi8(1);
    for (std::int64_t c = 0; c < k; c += 32) {
      std::int8_t* const to = x + (c / chunk * held + t) * kStride + c % chunk;
      quantize32(from + c, to, scales + c / 32);
      const __m256i pairs = _mm256_maddubs_epi16(ones, load(to));
      // The two columns beside each other of four times four, of either 16 columns.
      __m128i low = _mm256_castsi256_si128(pairs), high = _mm256_extracti128_si256(pairs, 1);
      low = _mm_add_epi16(low, _mm_shuffle_epi32(low, 0x4e));
      low = _mm_add_epi16(low, _mm_shuffle_epi32(low, 0xb1));
      high = _mm_add_epi16(high, _mm_shuffle_epi32(high, 0x4e));
      high = _mm_add_epi16(high, _mm_shuffle_epi32(high, 0xb1));
      const std::int32_t first = _mm_cvtsi128_si32(low), second = _mm_cvtsi128_si32(high);
      std::int32_t* const two = sums + t * (k / 16) + c / 16;
      two[0] = first;
      two[1] = second;
      const auto whole = [](std::int32_t both) { return static_cast<std::int16_t>(both) + (both >> 16); };
      const float step = scales[c / 32];
      float* const shifts = shift16 + t * (k / 16) + c / 16;
      shifts[0] = static_cast<float>(whole(first)) * step;
      shifts[1] = static_cast<float>(whole(second)) * step;
      shift32[t * (k / 32) + c / 32] = static_cast<float>(whole(first) + whole(second)) * step;
    }
  }
};

__m256 half_scales(const GroupedQnPart& w, const std::uint16_t* at) {
  const __m128i bits = _mm_load_si128(reinterpret_cast<const __m128i*>(at));
  return w.bf16 ? _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)) : _mm256_cvtph_ps(bits);
}

// Scales and minima of the groups [first, end) of a unit as floats [groups, 16].
void expand(const GroupedQnPart& w, std::int64_t k, std::int64_t unit, std::int64_t first, std::int64_t end, float* scale, float* min) {
  const __m256 shift = _mm256_set1_ps(static_cast<float>(w.shift)), sign = _mm256_set1_ps(-0.0f);
  const std::int64_t blocks = k / w.block, groups = k / w.group;
  for (std::int64_t g = first; g < end; ++g)
    for (std::int64_t half = 0; half < kRows; half += 8, scale += 8, min += 8) {
      const std::int64_t block = (unit * blocks + g * w.group / w.block) * kRows + half, here = (unit * groups + g) * kRows + half;
      __m256 by = half_scales(w, w.scale + block);
      if (w.sub != nullptr)
        by = _mm256_mul_ps(by, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w.sub + here)))));
      _mm256_store_ps(scale, by);
      if (w.min == nullptr) continue;
      __m256 plus = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(w.min + block)));
      if (w.submin != nullptr) {
        const __m256i small = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w.submin + here)));
        plus = _mm256_xor_ps(_mm256_mul_ps(plus, _mm256_cvtepi32_ps(small)), sign);
      }
      _mm256_store_ps(min, _mm256_add_ps(plus, _mm256_mul_ps(by, shift)));
    }
}

// Totals of a panel to y.
void finish(const LinearTask& task, const GroupedQnPart& w, std::int64_t unit, std::int64_t first_token, std::int64_t tokens,
            const float* total) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (std::int64_t half = 0; half < kRows; half += 8) {
    const std::int64_t left = w.n - unit * kRows - half, n = w.first_row + unit * kRows + half;
    if (left <= 0) return;
    const __m256i rows = _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? static_cast<int>(left) : 8), lane);
    const __m256 bias = task.bias != nullptr ? _mm256_maskload_ps(task.bias + n, rows) : _mm256_setzero_ps();
    for (std::int64_t t = 0; t < tokens; ++t) {
      __m256 value = _mm256_load_ps(total + t * kRows + half);
      if (task.bias != nullptr) value = _mm256_add_ps(value, bias);
      _mm256_maskstore_ps(task.y + (first_token + t) * task.ldy + n, rows, value);
    }
  }
}

// All tiles of a panel's chunk. codes: where the chunk begins.
template <int Group, int Passes, class Read, class Keep>
void tiles(Read read, Keep keep, std::uint8_t* bytes, Inputs in, std::int64_t tokens, std::int64_t columns, const float* scale,
           const float* min, int centre, float* total, bool accumulate) {
  const std::int64_t count = (tokens + kTile - 1) / kTile;
  if (count == 1) return tile_of<Group, Passes>(tokens, read, in, columns, scale, min, centre, total, accumulate);
  for (std::int64_t i = 0, t = 0; i < count; ++i) {
    const std::int64_t next = tokens * (i + 1) / count;  // tiles differ by one token at most
    const Inputs here = {in.x + t * kStride, in.scale + t * in.scale_step, in.sums + t * in.sums_step, in.shift + t * in.shift_step,
                         in.scale_step, in.sums_step, in.shift_step};
    if (i == 0) {
      tile_of<Group, Passes>(next, keep, here, columns, scale, min, centre, total, accumulate);
    } else {
      Bytes ready{bytes};
      tile_of<Group, Passes>(next - t, ready, here, columns, scale, min, centre, total + t * kRows, accumulate);
    }
    t = next;
  }
}

template <int Group, int Bits, int Passes>
void planes(const std::uint8_t* codes, std::uint8_t* bytes, const Inputs& in, std::int64_t tokens, std::int64_t columns, const float* scale,
            const float* min, int centre, float* total, bool accumulate) {
  tiles<Group, Passes>(Planes<Bits, false>{codes, nullptr, {}, {}}, Planes<Bits, true>{codes, bytes, {}, {}}, bytes, in, tokens, columns,
                       scale, min, centre, total, accumulate);
}

void chunk_of(const GroupedQnPart& w, const std::uint8_t* codes, std::uint8_t* bytes, const Inputs& in, std::int64_t tokens,
              std::int64_t columns, const float* scale, const float* min, float* total, bool accumulate) {
  if (w.table) {
    const auto levels = [](const std::uint8_t* at) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))); };
    const __m256i high = levels(w.high), low = levels(w.low);
    return tiles<32, 2>(Levels<false>{codes, nullptr, high, low, high}, Levels<true>{codes, bytes, high, low, high}, bytes, in, tokens,
                        columns, scale, min, w.centre, total, accumulate);
  }
  switch (w.bits) {
    case 2: return planes<16, 2, 1>(codes, bytes, in, tokens, columns, scale, min, w.centre, total, accumulate);
    case 3: return planes<16, 3, 1>(codes, bytes, in, tokens, columns, scale, min, w.centre, total, accumulate);
    case 4: return planes<32, 4, 1>(codes, bytes, in, tokens, columns, scale, min, w.centre, total, accumulate);
    case 5: return planes<32, 5, 1>(codes, bytes, in, tokens, columns, scale, min, w.centre, total, accumulate);
    case 6: return planes<16, 6, 1>(codes, bytes, in, tokens, columns, scale, min, w.centre, total, accumulate);
    default: return planes<32, 4, 2>(codes, bytes, in, tokens, columns, scale, min, w.centre, total, accumulate);
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

  void panel(const GroupedQnPart& part, std::int64_t unit) const {
    const std::int64_t k = w.k, chunk = copies.chunk, groups = k / part.group;
    for (std::int64_t c = 0, begin = 0; begin < k; ++c, begin += chunk) {
      const std::int64_t columns = k - begin < chunk ? k - begin : chunk, group = begin / part.group;
      expand(part, k, unit, group, group + columns / part.group, scale, min);
      const bool wide = part.group == 32;
      const Inputs in = {copies.x + c * copies.held * kStride,
                         copies.scale + begin / 32,
                         copies.sums + begin / 16,
                         (wide ? copies.shift32 : copies.shift16) + group,
                         k / 32, k / 16, groups};
      chunk_of(part, part.codes + (unit * groups + group) * part.group_bytes, bytes, in, tokens, columns, scale,
               part.min == nullptr ? nullptr : min, total, c != 0);
    }
    finish(task, part, unit, first, tokens, total);
  }
};

}  // namespace

void run_grouped_qn_avx2(const LinearTask& task) { run_panels<Copies, Block>(task, kTiling); }

#undef UNROLL

}  // namespace aerogel
