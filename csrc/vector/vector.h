// The vocabulary of vectors, over which one body of a kernel is written for every instruction set: this file has the words that need
// no intrinsics, vector/<isa>.h has the others and includes this one. Everything in the folder has internal linkage: no copy of it can
// be shared with code compiled for another instruction set.
//
// An <isa>.h defines, under the same names everywhere:
//     Vector, kLanes           the widest floats; Bits: as many 32-bit integers
//     Vector8, Vector4         the widest with at most 8 and at most 4 lanes
//     load, store: load(p) gives a Vector, load(p, v) fills a vector of any width
//     splat, broadcast, fma, fnma, mul_sub, max, min, magnitude, with_sign_of, power_of
//     load_first, store_first, select_first, keep_first: the first n lanes, or All{}
//     sum_lanes, max_lanes, store_sums_of_four
//     load_bf16, load_f16, load_q8: kLanes elements of 16 or 8 bits, widened; store_f16: rounded, cut to what is finite
//     magnitude_bits, codes_of, store_codes, load_codes: what quantization needs
//     transpose, look_up: of a Vector8
//     broadcast_four, gather_four: what packing and sparse rows need
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

template <class V>
static inline V add(V a, V b) { return a + b; }
template <class V>
static inline V sub(V a, V b) { return a - b; }
template <class V>
static inline V mul(V a, V b) { return a * b; }
template <class V>
static inline V div(V a, V b) { return a / b; }

// In place of a number of lanes: all of them. What works on the first n lanes is written once, and compiled for both.
struct All {};
static inline All operator-(All all, std::int64_t) { return all; }

static inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace aerogel
