// Chains of steps: the same answer bit for bit, whoever takes which tokens through them.
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <thread>

#include "base/stop.h"
#include "check.h"
#include "packed.h"
#include "runtime/ops/activation.h"
#include "runtime/ops/add.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/embed.h"
#include "runtime/ops/linear.h"
#include "runtime/ops/norm.h"
#include "runtime/ops/pool.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/scale.h"
#include "runtime/session.h"

namespace aerogel {
namespace {

using namespace testing;

constexpr std::int64_t kWords = 40, kWidth = 48, kHeads = 4, kHeadDim = 12, kInner = 160;

Floats random_floats(std::int64_t count, Random& random, float size = 1.0f) {
  auto values = std::make_shared<AlignedBuffer<float>>(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) values->data()[i] = random.uniform(-size, size);
  return values;
}

PackedLinear random_linear(std::int64_t n, std::int64_t k, bool quantized, Random& random) {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(n * k));
  std::vector<float> values(codes.size()), scale(static_cast<std::size_t>(n), 0.003f);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = random.below(100) < 80 ? std::int8_t{0} : static_cast<std::int8_t>(random.below(255) - 127);
    values[i] = static_cast<float>(codes[i]) * 0.003f;
  }
  return packed(n, k, quantized ? codes.data() : nullptr, scale.data(), values.data());
}

// Encoder layers, of which the second one has what the first has not; and an output that is not the last value.
std::shared_ptr<Plan> model(bool quantized, bool causal, int threads) {
  Random random(5);
  Program p;
  auto table = std::make_shared<Table>();
  const Floats rows = random_floats(kWords * kWidth, random);
  *table = {"table", kWords, kWidth, rows->data(), nullptr, nullptr, nullptr, nullptr, {}, rows};
  const auto linear = [&](const char* name, int x, std::int64_t n, std::int64_t k, float limit = 0) {
    return p.add<Linear>(name, x, random_linear(n, k, quantized, random), random_floats(n, random), 1, limit);
  };
  const auto norm = [&](int x) { return p.add<LayerNorm>("norm", x, random_floats(kWidth, random), random_floats(kWidth, random), 1e-5f); };
  const auto rotary = std::make_shared<Rotary>(std::vector<float>{1, .5f, .25f, .12f, .06f, .03f}, 256);
  int x = norm(p.add<Embed>(table, nullptr, nullptr, 0));
  for (int layer = 0; layer < 3; ++layer) {
    int qkv = linear("qkv", x, 3 * kWidth, kWidth);
    if (layer == 1) qkv = p.add<Scale>(p.add<Rope>(qkv, 2 * kHeads, kHeadDim, rotary), 1.25f);
    const int mixed = p.add<Attention>("attention", qkv, kHeads, kHeads, kHeadDim, causal, 0.3f);
    x = norm(p.add<Add>(x, linear("out", mixed, kWidth, kWidth, layer == 2 ? 2.0f : 0.0f)));
    const int inner = p.add<Activation>(linear("up", x, kInner, kWidth), "gelu");
    const int sum = p.add<Add>(x, linear("down", inner, kWidth, kInner));
    x = layer == 1 ? p.add<Add>(norm(sum), sum) : norm(sum);
    if (layer == 1) p.output("middle", x);
  }
  p.output("hidden", x);
  p.output("embedding", p.add<Pool>(x, std::vector<std::string>{"mean"}));
  return std::make_shared<Plan>(std::move(p), threads);
}

std::vector<float> run(Session& session, const std::vector<std::int64_t>& lengths, const std::string& output, const std::int64_t* slots = nullptr) {
  std::vector<std::int64_t> offsets{0};
  for (const std::int64_t length : lengths) offsets.push_back(offsets.back() + length);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(offsets.back()));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>((i * 7 + i / 11) % kWords);
  Batch batch{ids.data(), nullptr, offsets.back(), offsets.data(), static_cast<std::int64_t>(lengths.size()), slots};
  const Schedule& schedule = session.plan().schedule(output);
  session.check(schedule, batch);
  std::vector<float> y(static_cast<std::size_t>(session.result_rows(schedule, batch) * schedule.result.width));
  session.run(schedule, batch, y.data());
  return y;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

const std::vector<std::vector<std::int64_t>> kBatches = {{1}, {7}, {8}, {17}, {47}, {100}, {150}, {9, 120}, {130, 1, 1}};

TEST(chains_give_the_same_answer_on_any_number_of_threads) {
  for (const bool quantized : {true, false})
    for (const bool causal : {false, true}) {
      Session alone(model(quantized, causal, 1));
      for (const int threads : {2, 3, 4, 8, 16}) {
        Session together(model(quantized, causal, threads));
        for (const auto& batch : kBatches)
          for (const char* output : {"hidden", "middle", "embedding"}) {
            // Floats: the kernels for few and for many tokens sum in other orders, so only the shape is compared.
            const std::vector<float> expected = run(alone, batch, output), got = run(together, batch, output);
            CHECK(quantized ? same(got, expected) : got.size() == expected.size(), output << ", " << threads << " threads, " << batch[0]);
          }
      }
    }
}

TEST(chains_with_a_cache_give_the_same_answer) {
  const std::int64_t slots[] = {3};
  Session alone(model(true, true, 1)), together(model(true, true, 2));
  for (const std::int64_t length : {60, 1, 9})
    CHECK(same(run(together, {length}, "hidden", slots), run(alone, {length}, "hidden", slots)), length);
}

TEST(chains_of_several_callers) {
  const std::shared_ptr<Plan> plan = model(true, false, 3);
  Session first(plan);
  const std::vector<float> expected = run(first, {90}, "hidden"), few = run(first, {14}, "hidden");
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller)
    callers.emplace_back([&] {
      Session session(plan);
      for (int i = 0; i < 10; ++i) wrong += !same(run(session, {90}, "hidden"), expected) + !same(run(session, {14}, "hidden"), few);
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0, wrong);
}

TEST(chains_end_where_a_call_is_stopped) {
  Session session(model(true, false, 2));
  const std::vector<float> expected = run(session, {100}, "hidden");
  bool stopped = false;
  {
    const StopScope scope([] { return true; });
    try {
      for (;;) run(session, {100}, "hidden");
    } catch (const Stopped&) {
      stopped = true;
    }
  }
  CHECK(stopped && same(run(session, {100}, "hidden"), expected), "a call after one that was stopped");
}

// A thread may be at the end of a chain while another one begins: what both write must not lie in the same place.
TEST(chains_keep_the_rows_of_blocks_apart) {
  const std::shared_ptr<Plan> plan = model(true, false, 2);
  for (const Schedule& schedule : plan->schedules()) {
    using Form = std::pair<std::int64_t, bool>;  // width, codes
    std::map<int, Form> held;                    // by each slot
    int steps = 0, longest = 0;
    for (const Chain& chain : schedule.chains) {
      CHECK(chain.begin == steps && chain.end > chain.begin, "chains follow each other");
      steps = chain.end;
      longest = std::max(longest, chain.end - chain.begin);
      std::map<int, Form> touched;
      for (int i = chain.begin; i < chain.end; ++i) {
        const Step& step = schedule.steps[static_cast<std::size_t>(i)];
        for (const int slot : step.x) touched.emplace(slot, held[slot]);
        if (step.x_codes >= 0) touched.emplace(step.x_codes, held[step.x_codes]);
        const std::int64_t width = step.op->result().width;
        for (const auto& [slot, form] : {std::pair<int, Form>{step.sum, {width, false}}, {step.y, {width, false}}, {step.y_codes, {width, true}}}) {
          if (slot < 0) continue;
          CHECK(touched.emplace(slot, form).first->second == form, schedule.output << ": slot " << slot << " at step " << i);
          held[slot] = form;
        }
      }
    }
    CHECK(steps == static_cast<int>(schedule.steps.size()) && longest >= 8, longest);
  }
}

TEST(chains_are_cut_into_blocks_that_cover_all_tokens) {
  const Chain chain{0, 5, 1'000'000, 1 << 20};
  for (const std::int64_t threads : {2, 3, 16})
    for (std::int64_t tokens = 1; tokens < 700; ++tokens) {
      const TokenBlocks blocks = blocks_of(chain, tokens, threads);
      if (blocks.count == 0) {
        CHECK(tokens < 4 * threads, tokens);
        continue;
      }
      CHECK(blocks.begin(0) == 0 && blocks.begin(blocks.count) == tokens && blocks.count % threads == 0, tokens);
      for (std::int64_t block = 0; block < blocks.count; ++block)
        CHECK(blocks.begin(block + 1) - blocks.begin(block) < 160, tokens);
    }
  CHECK(blocks_of(chain, 512, 1).count == 0 && blocks_of({0, 1, 1, 1}, 512, 2).count == 0, "nothing to gain");
  CHECK(blocks_of({0, 5, 100'000'000, 1 << 20}, 512, 2).count == 0, "a block would take too long");
}

TEST(chains_profiled_give_the_same_answer) {
  Session session(model(true, false, 2));
  const std::vector<float> expected = run(session, {100}, "hidden");
  session.profile(true);
  CHECK(same(run(session, {100}, "hidden"), expected) && same(run(session, {100}, "hidden"), expected), "profiled");
  CHECK(session.timings().size() == session.plan().schedule("hidden").steps.size(), session.timings().size());
  for (const StepTiming& timing : session.timings()) CHECK(timing.calls == 2 && timing.seconds >= 0 && timing.seconds < 60, timing.step->op->name());
}

TEST(shares_are_taken_once_each_and_by_their_owner_first) {
  Shares shares(3);
  for (const int parts : {1, 2, 3, 7, 40}) {
    shares.deal(parts);
    std::vector<int> taken(static_cast<std::size_t>(parts), 0);
    for (int i = 0; i < parts; ++i) ++taken[static_cast<std::size_t>(shares.take(2))];
    for (const int times : taken) CHECK(times == 1, times);
  }
  shares.deal(6);
  CHECK(shares.take(1) == 2 && shares.take(2) == 4 && shares.take(0) == 0 && shares.take(2) == 5 && shares.take(2) == 1 && shares.take(0) == 3, "owners");
}

}  // namespace
}  // namespace aerogel
