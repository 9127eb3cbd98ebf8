// A linear in two forms: who runs which rows of a call, and that it does not show in the answer.
#include "runtime/packed_linear.h"

#include <thread>
#include <vector>

#include "check.h"
#include "runtime/linear_run.h"

namespace aerogel {
namespace {

using namespace testing;

constexpr std::int64_t kN = 75, kK = 130;

WeightSource random_source(std::vector<std::int8_t>& codes, std::vector<float>& scale) {
  Random random(3);
  codes.resize(static_cast<std::size_t>(kN * kK));
  for (auto& code : codes) code = random.below(100) < 70 ? std::int8_t{0} : static_cast<std::int8_t>(random.below(255) - 127);
  scale.assign(static_cast<std::size_t>(kN), 0.01f);
  WeightSource source(kK);
  WeightSource::Part part;
  part.rows = kN;
  part.q8 = codes.data();
  part.scale = scale.data();
  source.add("w", part, kN * kK);
  return source;
}

// A kernel of this CPU that takes several tokens together, or null.
const LinearKernel* tiled() {
  for (const LinearKernel& kernel : linear_kernels())
    if (kernel.tile > 1 && find_linear(kernel.format, active_isa()) == &kernel) return &kernel;
  return nullptr;
}

}  // namespace

TEST(packed_linear_leaves_what_is_behind_whole_tiles_to_the_form_for_few) {
  std::vector<std::int8_t> codes;
  std::vector<float> scale;
  const WeightSource source = random_source(codes, scale);
  const LinearKernel* many = tiled();
  if (many == nullptr) return;
  const std::int64_t tile = many->tile, few = tile / 2;
  const PackedLinear linear = pack_linear(source, {{"dense_q8", few}, {many->format}}, active_isa());
  for (std::int64_t rows = 1; rows < 5 * tile; ++rows) {
    const std::int64_t rest = rows % tile, whole = rest != 0 && rest <= few && rows > tile ? rows - rest : rows;
    CHECK(linear.whole(rows) == whole, rows << " rows: expected " << whole << " in whole tiles, got " << linear.whole(rows));
  }
  // Where the rows of whole tiles are few themselves, nobody is asked twice.
  const PackedLinear high = pack_linear(source, {{"dense_q8", tile + 2}, {many->format}}, active_isa());
  CHECK(high.whole(tile + 3) == tile + 3 && high.whole(2 * tile + 1) == 2 * tile, "expected whole tiles of the second form only");
  const PackedLinear alone = pack_linear(source, {{many->format}}, active_isa());
  CHECK(alone.whole(tile + 1) == tile + 1, "one form serves all rows");
}

TEST(packed_linear_gives_the_same_answer_in_two_forms) {
  std::vector<std::int8_t> codes;
  std::vector<float> scale;
  const WeightSource source = random_source(codes, scale);
  const LinearKernel* many = tiled();
  if (many == nullptr) return;
  const PackedLinear dense = pack_linear(source, {{"dense_q8"}}, active_isa());
  const PackedLinear both = pack_linear(source, {{"gathered_q8", many->tile - 1}, {many->format}}, active_isa());
  Random random(4);
  std::vector<float> bias(static_cast<std::size_t>(kN), 0.5f);
  for (std::int64_t rows : {many->tile + 1, 2 * many->tile - 1, 4 * many->tile + 5, 260})
    for (int threads : {1, 3}) {
      std::vector<float> x(static_cast<std::size_t>(rows * kK)), expected(static_cast<std::size_t>(rows * kN), -1), y(expected);
      for (float& value : x) value = random.uniform(-1.0f, 1.0f);
      linear_once(dense, x.data(), rows, bias.data(), expected.data(), 1);
      linear_once(both, x.data(), rows, bias.data(), y.data(), threads);
      CHECK(y == expected, rows << " rows on " << threads << " threads: another answer than in the dense form");
    }
}

TEST(packed_linear_runs_for_callers_of_one_thread_side_by_side) {
  std::vector<std::int8_t> codes;
  std::vector<float> scale;
  const PackedLinear linear = pack_linear(random_source(codes, scale), {{"dense_q8"}}, active_isa());
  constexpr std::int64_t rows = 40;
  std::vector<float> x(static_cast<std::size_t>(rows * kK)), expected(static_cast<std::size_t>(rows * kN), -1);
  Random random(5);
  for (float& value : x) value = random.uniform(-1.0f, 1.0f);
  linear_once(linear, x.data(), rows, nullptr, expected.data(), 1);
  std::vector<std::vector<float>> found(4, std::vector<float>(expected.size(), -1));
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)  // the last two share a team, and take turns
    callers.emplace_back([&, i] { linear_once(linear, x.data(), rows, nullptr, found[static_cast<std::size_t>(i)].data(), i < 2 ? 1 : 2); });
  for (std::thread& caller : callers) caller.join();
  for (const auto& y : found) CHECK(y == expected, "another answer beside other callers");
}

}  // namespace aerogel
