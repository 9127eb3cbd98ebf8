// gathered_rows_q8 on AVX-512 VBMI + VNNI: vpermb gathers four activations for each of 16 sets of R rows, R vpdpbusd multiply and add
// 64 each, for every one of T tokens whose sums stay in registers. Index and value vectors are loaded once per T tokens.
//
// Where both instructions go to port 5 or share it (Intel server cores: vpermb port 5, vpdpbusd ports 0 and 5), R + 1 of them take
// (R + 1) / 2 cycles: 64 products in 1, .75 and .625 cycles for R = 1, 2 and 4, where the dense kernel needs .5.
// The gathers of some tokens stand before their products: alternating, a product often takes the port that only a gather can use.
#include <immintrin.h>

#include "linear/gathered_avx512.h"
#include "linear/gathered_rows_q8/layout.h"

// A loop left rolled would keep the sums in memory.
#define UNROLL _Pragma("GCC unroll 32")

namespace aerogel {
namespace {

constexpr std::int64_t kBlock = kGatheredRowsBlock;

// Token t of T: sums at s[t][R]. Intrinsics would let GCC 12 copy the accumulators and mix gathers with products.
inline __attribute__((always_inline)) void multiply(__m512i (*s)[2], __m512i index, const __m512i (&w)[2], const std::uint8_t* windows) {
  __m512i a, b, c, d;
  __asm__("vpermb (%[x]), %[i], %[a]\n\tvpermb 64(%[x]), %[i], %[b]\n\tvpermb 128(%[x]), %[i], %[c]\n\tvpermb 192(%[x]), %[i], %[d]\n\t"
          "vpdpbusd %[v], %[a], %[s0]\n\tvpdpbusd %[w], %[a], %[s1]\n\tvpdpbusd %[v], %[b], %[s2]\n\tvpdpbusd %[w], %[b], %[s3]\n\t"
          "vpdpbusd %[v], %[c], %[s4]\n\tvpdpbusd %[w], %[c], %[s5]\n\tvpdpbusd %[v], %[d], %[s6]\n\tvpdpbusd %[w], %[d], %[s7]"
          : [s0] "+v"(s[0][0]), [s1] "+v"(s[0][1]), [s2] "+v"(s[1][0]), [s3] "+v"(s[1][1]), [s4] "+v"(s[2][0]), [s5] "+v"(s[2][1]),
            [s6] "+v"(s[3][0]), [s7] "+v"(s[3][1]), [a] "=&v"(a), [b] "=&v"(b), [c] "=&v"(c), [d] "=&v"(d)
          : [i] "v"(index), [v] "v"(w[0]), [w] "v"(w[1]), [x] "r"(windows), "m"(*reinterpret_cast<const std::uint8_t(*)[256]>(windows)));
}

inline __attribute__((always_inline)) void multiply(__m512i (*s)[4], __m512i index, const __m512i (&w)[4], const std::uint8_t* windows) {
  __m512i a, b;
  __asm__("vpermb (%[x]), %[i], %[a]\n\tvpermb 64(%[x]), %[i], %[b]\n\t"
          "vpdpbusd %[t], %[a], %[s0]\n\tvpdpbusd %[u], %[a], %[s1]\n\tvpdpbusd %[v], %[a], %[s2]\n\tvpdpbusd %[w], %[a], %[s3]\n\t"
          "vpdpbusd %[t], %[b], %[s4]\n\tvpdpbusd %[u], %[b], %[s5]\n\tvpdpbusd %[v], %[b], %[s6]\n\tvpdpbusd %[w], %[b], %[s7]"
          : [s0] "+v"(s[0][0]), [s1] "+v"(s[0][1]), [s2] "+v"(s[0][2]), [s3] "+v"(s[0][3]), [s4] "+v"(s[1][0]), [s5] "+v"(s[1][1]),
            [s6] "+v"(s[1][2]), [s7] "+v"(s[1][3]), [a] "=&v"(a), [b] "=&v"(b)
          : [i] "v"(index), [t] "v"(w[0]), [u] "v"(w[1]), [v] "v"(w[2]), [w] "v"(w[3]), [x] "r"(windows),
            "m"(*reinterpret_cast<const std::uint8_t(*)[128]>(windows)));
}

// One token.
template <int R>
inline __attribute__((always_inline)) void multiply_one(__m512i (&s)[R], __m512i index, const __m512i (&w)[R], const std::uint8_t* window) {
  __m512i gathered;
  __asm__("vpermb %2, %1, %0" : "=v"(gathered) : "v"(index), "m"(*reinterpret_cast<const __m512i*>(window)));
  UNROLL for (int r = 0; r < R; ++r) __asm__("vpdpbusd %2, %1, %0" : "+v"(s[r]) : "v"(gathered), "v"(w[r]));
}

// One group: vectors [begin, end) for T tokens. sums: [R][T][16], from `start` [R][16] on, or where they stood. First: these are the
// first tokens, so the vectors may come from memory.
template <int R, int T, bool First>
__attribute__((noinline)) void add_group(const GatheredRowsView& v, std::int64_t begin, std::int64_t end, const std::uint8_t* windows,
                                         const std::int32_t* start, std::int32_t* sums) {
  constexpr int kBytes = 64 + 64 * R, kStep = 8 / R;
  __m512i s[T][R];
  UNROLL for (int t = 0; t < T; ++t) UNROLL for (int r = 0; r < R; ++r)
    s[t][r] = _mm512_load_si512(start != nullptr ? start + 16 * r : sums + 16 * (T * r + t));
  const std::uint8_t* vector = v.vectors + begin * kBytes;
  for (std::int64_t i = begin; i < end; ++i, vector += kBytes) {
    // 16 KB ahead: less does not help a stream from memory. From the caches it only costs.
    if (First) UNROLL for (int line = 0; line <= R; ++line) _mm_prefetch(reinterpret_cast<const char*>(vector) + 16384 + 64 * line, _MM_HINT_T0);
    const __m512i index = _mm512_load_si512(vector);
    __m512i w[R];
    UNROLL for (int r = 0; r < R; ++r) w[r] = _mm512_load_si512(vector + 64 + 64 * r);
    const std::uint8_t* window = windows + std::size_t{v.window[i]} * (T * 64);
    if constexpr (T % kStep == 0) {
      UNROLL for (int t = 0; t < T; t += kStep) multiply(s + t, index, w, window + 64 * t);
    } else {
      UNROLL for (int t = 0; t < T; ++t) multiply_one<R>(s[t], index, w, window + 64 * t);
    }
  }
  UNROLL for (int t = 0; t < T; ++t) UNROLL for (int r = 0; r < R; ++r) _mm512_store_si512(sums + 16 * (T * r + t), s[t][r]);
}

// Tokens [t, t + T) of units [unit, unit_end).
template <int R, int T, bool First>
void run_tile(const LinearTask& task, const GatheredRowsView& v, std::int64_t unit, std::int64_t unit_end, std::int64_t t) {
  auto* windows = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(windows + v.chunk / 32 * kGatheredRowsTokens * 64);
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int64_t column = chunk * v.chunk, columns = v.k - column < v.chunk ? v.k - column : v.chunk;
    copy_windows<T>(static_cast<const std::int8_t*>(task.x) + t * task.ldx + column, task.ldx, columns, windows);
    std::int32_t* to = sums;
    for (std::int64_t u = unit; u < unit_end; ++u) {
      const std::int64_t* segment = v.segment + (u * v.chunks + chunk) * v.groups;
      for (std::int64_t group = 0; group < v.groups; ++group)
        add_group<R, T, First>(v, segment[group], segment[group + 1], windows, chunk == 0 ? v.start + u * kBlock + 16 * R * group : nullptr,
                             to + 16 * R * T * group);
      if (chunk == v.chunks - 1) write_unit<T, kBlock>(task, v.n, u * kBlock, v.place, v.scale, t, to);
      if (v.chunks > 1) to += T * kBlock;  // else the sums, just written, are free again
    }
  }
}

template <int R, int T>
void run_tile(const LinearTask& task, const GatheredRowsView& v, std::int64_t unit, std::int64_t unit_end, std::int64_t t) {
  t == 0 ? run_tile<R, T, true>(task, v, unit, unit_end, t) : run_tile<R, T, false>(task, v, unit, unit_end, t);
}

template <int R>
void run(const LinearTask& task, const GatheredRowsView& v) {
  constexpr int T = R == 2 ? 8 : 6;  // 16 and 24 registers of sums
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end;) {
    const std::int64_t end = end_of_set(task, unit, kGatheredRowsSetRows / kBlock, v.segment, v.chunks * v.groups, gathered_rows_vector_bytes(R));
    std::int64_t t = 0;
    for (; task.m - t >= T; t += T) run_tile<R, T>(task, v, unit, end, t);
    if (task.m - t >= 4) run_tile<R, 4>(task, v, unit, end, t), t += 4;
    if (task.m - t >= 2) run_tile<R, 2>(task, v, unit, end, t), t += 2;
    if (task.m - t >= 1) run_tile<R, 1>(task, v, unit, end, t);
    unit = end;
  }
}

}  // namespace

void run_gathered_rows_q8_avx512vnni(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredRowsView*>(task.weight);
  v.rows == 4 ? run<4>(task, v) : run<2>(task, v);
}

}  // namespace aerogel
