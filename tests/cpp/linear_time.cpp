// The clock of the kernels: what it returns, and that weights thrown out of the caches are the same afterwards.
#include "runtime/linear_time.h"

#include <cstdint>
#include <vector>

#include "base/evict.h"
#include "check.h"
#include "isa/isa.h"
#include "linear/weight.h"

namespace aerogel {

TEST(linear_time_of_weights_that_were_evicted) {
  const std::int64_t n = 37, k = 100;
  std::vector<float> values(static_cast<std::size_t>(n * k));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 0 ? 0.01f * static_cast<float>(i % 97) - 0.4f : 0.0f;
  WeightSource source(k);
  WeightSource::Part part;
  part.rows = n;
  part.f32 = values.data();
  source.add("w", part, n * k);
  std::vector<PackedLinear> candidates;
  for (const char* format : {"dense_f32", "csr_f32"}) candidates.push_back(pack_linear(source, {{format, kAnyRows}}, active_isa()));
  const auto times = time_linears(candidates, {3, 2, 4, 1.0, true});
  CHECK(times.size() == 2, "expected times of two candidates, got " << times.size());
  for (std::size_t c = 0; c < times.size(); ++c) {
    CHECK(times[c].size() >= 3 && times[c].size() <= 4, "candidate " << c << ": expected three or four calls, got " << times[c].size());
    const Weight& weight = *candidates[c].forms()[0].weight;
    std::size_t bytes = 0;
    for (const Bytes& array : weight.arrays()) bytes += array.size;
    CHECK(bytes > 0 && bytes == weight.bytes() && bytes == candidates[c].bytes(), "candidate " << c << ": " << bytes << " bytes");
    std::vector<float> row(static_cast<std::size_t>(k));
    for (std::int64_t i = 0; i < n; ++i) {
      weight.row_f32(i, row.data());
      for (std::int64_t j = 0; j < k; ++j) CHECK(row[j] == values[i * k + j], "candidate " << c << " changed at " << i << ", " << j);
    }
  }
}

TEST(evicted_memory_keeps_what_was_written) {
  std::vector<std::uint8_t> bytes(1000);  // not aligned to anything
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 7);
  evict(bytes.data() + 3, bytes.size() - 3);
  evict(bytes.data(), 0);
  for (std::size_t i = 0; i < bytes.size(); ++i) CHECK(bytes[i] == static_cast<std::uint8_t>(i * 7), "byte " << i << " changed");
}

}  // namespace aerogel
