#include "limits/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "base/lines.h"
#include "base/team.h"
#include "isa/isa.h"

namespace aerogel {

// Which instruction sets have micro-kernels, best first.
#define AEROGEL_LIMITS_SCALAR(X) X(scalar)
#if AEROGEL_AVX512VNNI
#define AEROGEL_LIMITS(X) X(avx512vnni) X(avx2) AEROGEL_LIMITS_SCALAR(X)
#elif defined(__x86_64__)
#define AEROGEL_LIMITS(X) X(avx2) AEROGEL_LIMITS_SCALAR(X)
#elif defined(__aarch64__)
#define AEROGEL_LIMITS(X) X(neon) AEROGEL_LIMITS_SCALAR(X)
#else
#define AEROGEL_LIMITS(X) AEROGEL_LIMITS_SCALAR(X)
#endif

#define AEROGEL_DECLARE(isa)                         \
  std::int64_t peak_int8_##isa(std::int64_t rounds); \
  std::int64_t peak_fp32_##isa(std::int64_t rounds); \
  std::int64_t read_##isa(const void* data, std::size_t bytes);
AEROGEL_LIMITS(AEROGEL_DECLARE)
#undef AEROGEL_DECLARE

namespace {

using Clock = std::chrono::steady_clock;

struct Row {
  Isa isa;
  LimitKernels kernels;
};

constexpr Row kRows[] = {
#define AEROGEL_ROW(isa) {Isa::isa, {peak_int8_##isa, peak_fp32_##isa, read_##isa}},
    AEROGEL_LIMITS(AEROGEL_ROW)
#undef AEROGEL_ROW
};

const LimitKernels& kernels_for(Isa isa) {
  for (const Isa candidate : isa_chain(isa))
    for (const Row& row : kRows)
      if (row.isa == candidate) return row.kernels;
  throw IsaError("no limits for this instruction set");  // not reached: scalar is on every chain
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The highest rate of `work`, which returns what it did, over samples of some hundred microseconds.
template <class Work>
double best_rate(double seconds, const Work& work) {
  double best = 0;
  const auto begin = Clock::now();
  do {
    const auto start = Clock::now();
    const double done = work();
    best = std::max(best, done / seconds_since(start));
  } while (seconds_since(begin) < seconds);
  return best;
}

double peak(Team& team, PeakRun run) {
  // Rounds for about 100 us, found by one warm call.
  std::int64_t rounds = 4096;
  const auto start = Clock::now();
  const std::int64_t warm = run(rounds);
  rounds = std::max<std::int64_t>(64, static_cast<std::int64_t>(static_cast<double>(rounds) * 1e-4 / seconds_since(start)));
  if (warm == 0) throw Error("limits: a multiply-add loop gave a wrong sum");
  return best_rate(0.1, [&] {
    std::atomic<std::int64_t> done{0};
    team.run(team.size(), [&](std::int64_t, int) noexcept { done += run(rounds); });
    return static_cast<double>(done.load());
  });
}

// Each part reads its own piece of `bytes`; `pieces` rotate, so that a piece comes back only after all others.
double bandwidth(Team& team, ReadRun run, std::size_t bytes, std::size_t pieces) {
  bytes = std::max<std::size_t>(bytes / 4096 * 4096, 4096);
  const auto parts = static_cast<std::size_t>(team.size());
  // Beyond the end lies what the prefetches of the last lines name; they fault on nothing and read nothing.
  const AlignedBuffer<char> buffer = AlignedBuffer<char>::zeros(bytes * pieces * parts);
  const std::size_t passes = std::max<std::size_t>(1, (pieces == 1 ? (std::size_t{2} << 20) : 0) / bytes);
  std::size_t piece = 0;
  std::atomic<std::int64_t> sum{0};
  const double rate = best_rate(0.06, [&] {
    team.run(team.size(), [&](std::int64_t part, int) noexcept {
      const char* data = buffer.data() + (piece * parts + static_cast<std::size_t>(part)) * bytes;
      for (std::size_t pass = 0; pass < passes; ++pass) sum += run(data, bytes);
    });
    piece = (piece + 1) % pieces;
    return static_cast<double>(bytes * parts * passes);
  });
  if (sum.load() == 0) throw Error("limits: zeros were read as something else");
  return rate;
}

// Size of a core's cache of `level` as Linux says it; a virtual machine may be told of a larger one than it shares.
std::size_t cache_bytes(int level, std::size_t guess) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    const std::vector<std::string> levels = lines_of(folder + "/level"), sizes = lines_of(folder + "/size");
    if (levels.empty()) break;
    if (std::atoi(levels[0].c_str()) != level || sizes.empty()) continue;
    char* unit = nullptr;
    const auto size = static_cast<std::size_t>(std::strtoull(sizes[0].c_str(), &unit, 10));  // "512K"
    if (size > 0) return size << (*unit == 'M' ? 20 : 10);
  }
  return guess;
}

}  // namespace

Limits measure_limits(int threads) {
  const LimitKernels& kernels = kernels_for(active_isa());
  Team team(threads);
  const auto lock = team.lock();
  Limits limits{};
  limits.threads = threads;
  limits.l2_bytes = cache_bytes(2, std::size_t{512} << 10);
  limits.l3_bytes = cache_bytes(3, std::size_t{16} << 20);
  const auto share = static_cast<std::size_t>(threads);
  limits.int8_gmacs = peak(team, kernels.int8) / 1e9;
  limits.fp32_gmacs = peak(team, kernels.fp32) / 1e9;
  limits.l2_gbs = bandwidth(team, kernels.read, limits.l2_bytes / 2, 1) / 1e9;
  limits.l3_gbs = bandwidth(team, kernels.read, std::max(2 * limits.l2_bytes, limits.l3_bytes / (4 * share)), 1) / 1e9;
  // Four times the last cache, at most 1 GB: what is read again has left it.
  const std::size_t all = std::min(std::max(4 * limits.l3_bytes, std::size_t{64} << 20), std::size_t{1} << 30);
  const std::size_t piece = std::size_t{4} << 20;
  limits.dram_gbs = bandwidth(team, kernels.read, piece, std::max<std::size_t>(1, all / (piece * share))) / 1e9;
  return limits;
}

double time_fixed_work() {
  const LimitKernels& kernels = kernels_for(active_isa());
  const auto start = Clock::now();
  if (kernels.fp32(std::int64_t{1} << 18) == 0) throw Error("limits: a multiply-add loop gave a wrong sum");
  return seconds_since(start);
}

}  // namespace aerogel
