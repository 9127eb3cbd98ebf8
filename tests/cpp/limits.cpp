// The machine's limits: the loops do what they count, and every rate is a rate.
#include "limits/limits.h"

#include "base/error.h"
#include "check.h"

using namespace aerogel;

TEST(limits_are_rates) {
  for (const int threads : {1, 2}) {
    const Limits limits = measure_limits(threads);
    CHECK(limits.threads == threads, limits.threads);
    for (const double rate : {limits.int8_gmacs, limits.fp32_gmacs, limits.l2_gbs, limits.l3_gbs, limits.dram_gbs})
      CHECK(rate > 0.01 && rate < 1e6, rate);
  }
}

TEST(limits_need_a_thread) {
  try {
    measure_limits(0);
  } catch (const Error&) {
    return;
  }
  CHECK(false, "0 threads were accepted");
}

TEST(limits_fixed_work_takes_time) { CHECK(time_fixed_work() > 0, "no time"); }
