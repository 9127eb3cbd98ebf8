// gathered_q8 on AVX-512 VBMI + VNNI: vpermb gathers four activations for each of 16 rows, vpdpbusd multiplies and adds
// all 64, for every one of T tokens whose sums stay in registers; index and value vectors are loaded once per T tokens.
//
// Bound by the shuffle and multiply ports. On Intel server cores vpermb has port 5 and vpdpbusd ports 0 and 5, so a pair takes a cycle:
// measured on an Emerald Rapids 1.14 alternating and 1.08 with eight gathers first. On Zen 5 alternating pairs took .725 (limit .67).
// The loop is 41 instructions for 16 pairs, so the front end does not limit it.
//
// What the rest costs: 40 to 55 cycles on an Emerald Rapids for each group, chunk and tile of tokens, where the pipeline
// runs empty and the sums come and go; 3 to 8 on Zen 5 for 16 outputs of a token (sort_block.cpp); and a line stored for
// each window and token.
//
// Zen 5, 128 tokens, without the quantization of x, times as fast as dense_q8 at 50 / 80 / 90 %: 1.18 2.4 3.65 (768x768),
// 1.17 2.4 3.6 (3072x768), 1.15 2.2 3.2 (384x384). On an Emerald Rapids a prototype ran .87 1.76 2.73 (768x768) and .91 1.90
// 2.87 (3072x768). Tried there without gain: 8 or 12 tokens, windows in steps of 16 or 8, chunks of 384 or 512 columns,
// prefetchw.
#include <immintrin.h>

#include "linear/gathered_avx512.h"
#include "linear/gathered_q8/layout.h"

// A loop left rolled would keep the sums in memory.
#define UNROLL _Pragma("GCC unroll 16")

namespace aerogel {
namespace {

// All gathers of some tokens before all their products: alternating, a product often takes port 5, the only one of a gather.
// Intrinsics would let the compiler mix them, and GCC 12 copies the accumulators. What is gathered has registers of its own, by
// name: chosen by GCC they cost moves of the sums. The windows are named by one register and displacements, as an instruction may
// have 30 operands, of which one that is read and written is two.

// Tokens [At, At + 8).
template <int At>
inline __attribute__((always_inline)) void multiply8(__m512i* s, __m512i index, __m512i value, const std::uint8_t* windows) {
  __asm__("vpermb %c[at](%[x]), %[i], %%zmm24\n\tvpermb %c[at]+64(%[x]), %[i], %%zmm25\n\t"
          "vpermb %c[at]+128(%[x]), %[i], %%zmm26\n\tvpermb %c[at]+192(%[x]), %[i], %%zmm27\n\t"
          "vpermb %c[at]+256(%[x]), %[i], %%zmm28\n\tvpermb %c[at]+320(%[x]), %[i], %%zmm29\n\t"
          "vpermb %c[at]+384(%[x]), %[i], %%zmm30\n\tvpermb %c[at]+448(%[x]), %[i], %%zmm31\n\t"
          "vpdpbusd %[v], %%zmm24, %[s0]\n\tvpdpbusd %[v], %%zmm25, %[s1]\n\tvpdpbusd %[v], %%zmm26, %[s2]\n\t"
          "vpdpbusd %[v], %%zmm27, %[s3]\n\tvpdpbusd %[v], %%zmm28, %[s4]\n\tvpdpbusd %[v], %%zmm29, %[s5]\n\t"
          "vpdpbusd %[v], %%zmm30, %[s6]\n\tvpdpbusd %[v], %%zmm31, %[s7]"
          : [s0] "+v"(s[At]), [s1] "+v"(s[At + 1]), [s2] "+v"(s[At + 2]), [s3] "+v"(s[At + 3]), [s4] "+v"(s[At + 4]), [s5] "+v"(s[At + 5]),
            [s6] "+v"(s[At + 6]), [s7] "+v"(s[At + 7])
          : [i] "v"(index), [v] "v"(value), [x] "r"(windows), [at] "i"(64 * At),
            "m"(*reinterpret_cast<const std::uint8_t(*)[64 * At + 512]>(windows))
          : "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

inline __attribute__((always_inline)) void multiply4(__m512i* s, __m512i index, __m512i value, const std::uint8_t* windows) {
  __asm__("vpermb (%[x]), %[i], %%zmm28\n\tvpermb 64(%[x]), %[i], %%zmm29\n\t"
          "vpermb 128(%[x]), %[i], %%zmm30\n\tvpermb 192(%[x]), %[i], %%zmm31\n\t"
          "vpdpbusd %[v], %%zmm28, %[s0]\n\tvpdpbusd %[v], %%zmm29, %[s1]\n\tvpdpbusd %[v], %%zmm30, %[s2]\n\tvpdpbusd %[v], %%zmm31, %[s3]"
          : [s0] "+v"(s[0]), [s1] "+v"(s[1]), [s2] "+v"(s[2]), [s3] "+v"(s[3])
          : [i] "v"(index), [v] "v"(value), [x] "r"(windows), "m"(*reinterpret_cast<const std::uint8_t(*)[256]>(windows))
          : "xmm28", "xmm29", "xmm30", "xmm31");
}

inline __attribute__((always_inline)) void multiply1(__m512i& s, __m512i index, __m512i value, const std::uint8_t* window) {
  __m512i gathered;
  __asm__("vpermb %2, %1, %0" : "=v"(gathered) : "v"(index), "m"(*reinterpret_cast<const __m512i*>(window)));
  __asm__("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(gathered), "v"(value));
}

template <int T>
inline __attribute__((always_inline)) void multiply(__m512i (&s)[T], __m512i index, __m512i value, const std::uint8_t* windows) {
  if constexpr (T == 16) {
    multiply8<0>(s, index, value, windows);
    multiply8<8>(s, index, value, windows);
  } else if constexpr (T == 8) {
    multiply8<0>(s, index, value, windows);
  } else if constexpr (T == 4) {
    multiply4(s, index, value, windows);
  } else {
    UNROLL for (int t = 0; t < T; ++t) multiply1(s[t], index, value, windows + 64 * t);
  }
}

// One group of 16 rows: vectors [begin, end) for T tokens. sums: [T][16], from `start` on, or where they stood. First: these are the first
// tokens, so the vectors may come from memory.
template <int T, bool First>
__attribute__((noinline)) void add_group(const GatheredView& v, std::int64_t begin, std::int64_t end, const std::uint8_t* windows,
                                         const std::int32_t* start, std::int32_t* sums) {
  __m512i sum[T];
  UNROLL for (int t = 0; t < T; ++t) sum[t] = _mm512_load_si512(start != nullptr ? start : sums + 16 * t);
  const std::uint8_t* vector = v.vectors + begin * 128;
  for (std::int64_t i = begin; i < end; ++i, vector += 128) {
    // 16 KB ahead: less does not help a stream from memory. From the caches it only costs.
    if (First) UNROLL for (int line = 0; line < 2; ++line) _mm_prefetch(reinterpret_cast<const char*>(vector) + 16384 + 64 * line, _MM_HINT_T0);
    const __m512i index = _mm512_load_si512(vector), value = _mm512_load_si512(vector + 64);
    multiply<T>(sum, index, value, windows + std::size_t{v.window[i]} * (T * 64));
  }
  UNROLL for (int t = 0; t < T; ++t) _mm512_store_si512(sums + 16 * t, sum[t]);
}

// Tokens [t, t + T) of units [unit, unit_end).
template <int T, bool First>
void run_tile(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t unit_end, std::int64_t t) {
  auto* windows = static_cast<std::uint8_t*>(task.scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(windows + v.geometry.chunk / 32 * kGatheredAvx512Tokens * 64);
  for (std::int64_t chunk = 0; chunk < v.chunks; ++chunk) {
    const std::int64_t column = chunk * v.geometry.chunk;
    const std::int64_t columns = v.k - column < v.geometry.chunk ? v.k - column : v.geometry.chunk;
    copy_windows<T>(static_cast<const std::int8_t*>(task.x) + t * task.ldx + column, task.ldx, columns, windows);
    std::int32_t* to = sums;
    for (std::int64_t u = unit; u < unit_end; ++u) {
      const std::int64_t* segment = v.segment + (u * v.chunks + chunk) * v.groups_per_block;
      for (std::int64_t group = 0; group < v.groups_per_block; ++group)
        add_group<T, First>(v, segment[group], segment[group + 1], windows, chunk == 0 ? v.start + u * v.block + 16 * group : nullptr,
                          to + 16 * T * group);
      if (chunk == v.chunks - 1) {  // while the sums are in L1
        switch (v.block) {
          case 32: write_unit<T, 32>(task, v.n, 32 * u, v.position, v.scale, t, to); break;
          case 64: write_unit<T, 64>(task, v.n, 64 * u, v.position, v.scale, t, to); break;
          case 128: write_unit<T, 128>(task, v.n, 128 * u, v.position, v.scale, t, to); break;
          default: write_unit<T, 256>(task, v.n, 256 * u, v.position, v.scale, t, to);
        }
      }
      if (v.chunks > 1) to += T * v.block;  // else they are free again
    }
  }
}

template <int T>
void run_tile(const LinearTask& task, const GatheredView& v, std::int64_t unit, std::int64_t unit_end, std::int64_t t) {
  t == 0 ? run_tile<T, true>(task, v, unit, unit_end, t) : run_tile<T, false>(task, v, unit, unit_end, t);
}

}  // namespace

void run_gathered_q8_avx512vnni(const LinearTask& task) {
  const auto& v = *static_cast<const GatheredView*>(task.weight);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end;) {
    const std::int64_t end = end_of_set(task, unit, kGatheredAvx512SetRows / v.block, v.segment, v.chunks * v.groups_per_block, 128);
    std::int64_t t = 0;
    for (; task.m - t >= 16; t += 16) run_tile<16>(task, v, unit, end, t);
    if (task.m - t >= 8) run_tile<8>(task, v, unit, end, t), t += 8;
    if (task.m - t >= 4) run_tile<4>(task, v, unit, end, t), t += 4;
    if (task.m - t >= 2) run_tile<2>(task, v, unit, end, t), t += 2;
    if (task.m - t >= 1) run_tile<1>(task, v, unit, end, t);
    unit = end;
  }
}

}  // namespace aerogel
