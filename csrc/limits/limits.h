// What this machine can do at most: the bare multiply-add instruction of the instruction set in use, and reading memory.
//
// A benchmark that says "70 GMAC/s" says little; "88 % of what the instruction can do here" says what is left. The micro-kernels are
// one file per instruction set, as kernels are, and keep to the same rule: plain data only, no weak symbols.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// Each does `rounds` rounds of independent multiply-adds on registers and returns how many multiply-adds that were.
using PeakRun = std::int64_t (*)(std::int64_t rounds);
// Reads bytes (a multiple of 512, 64-byte aligned) and returns something that depends on all of them.
using ReadRun = std::int64_t (*)(const void* data, std::size_t bytes);

struct LimitKernels {
  PeakRun int8;
  PeakRun fp32;
  ReadRun read;
};

// Best of many short samples, so that neighbours hardly matter: a sample is over before they come.
struct Limits {
  int threads;
  double int8_gmacs, fp32_gmacs;       // multiply-adds a second, in 1e9
  double l2_gbs, l3_gbs, dram_gbs;     // bytes read a second, in 1e9
  std::size_t l2_bytes, l3_bytes;      // of one core, of the machine, as far as the system says; else a guess
};

// Those of the instruction set in use with `threads` threads. Takes about half a second.
Limits measure_limits(int threads);

// Seconds that a fixed amount of arithmetic on one thread takes, about a millisecond on a quiet core.
double time_fixed_work();

}  // namespace aerogel
