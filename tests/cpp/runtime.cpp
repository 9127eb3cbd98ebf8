// The runtime: a batch gives the same answer however it is cut into sequences, threads, frames and cache steps, and a
// small model agrees with plain loops in double precision.
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "check.h"
#include "packed.h"
#include "runtime/ops/activation.h"
#include "runtime/ops/add.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/embed.h"
#include "runtime/ops/join.h"
#include "runtime/ops/l2_normalize.h"
#include "runtime/ops/linear.h"
#include "runtime/ops/norm.h"
#include "runtime/ops/disentangled_attention.h"
#include "runtime/ops/pool.h"
#include "runtime/ops/qk_norm.h"
#include "runtime/ops/quantize.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/scale.h"
#include "runtime/ops/select_last.h"
#include "runtime/session.h"

namespace aerogel {
namespace {

using namespace testing;

Floats floats(std::vector<float> values) {
  auto copy = std::make_shared<AlignedBuffer<float>>(values.size());
  if (!values.empty()) std::memcpy(copy->data(), values.data(), values.size() * sizeof(float));
  return copy;
}

std::vector<float> random_floats(std::int64_t count, Random& random, float size = 1.0f) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = random.uniform(-size, size);
  return values;
}

constexpr std::int64_t kVocabulary = 50, kHidden = 48, kHeads = 4, kHeadDim = 12, kPositions = 96;

PackedLinear random_linear(std::int64_t n, std::int64_t k, bool quantized, int percent_zero, Random& random) {
  std::vector<float> values = random_floats(n * k, random, 0.4f);
  for (float& value : values)
    if (random.below(100) < percent_zero) value = 0;
  std::vector<std::int8_t> codes(values.size());
  std::vector<float> scale(static_cast<std::size_t>(n), 0.4f / 127);
  for (std::size_t i = 0; i < values.size(); ++i) codes[i] = static_cast<std::int8_t>(std::lrint(values[i] / (0.4f / 127)));
  return packed(n, k, quantized ? codes.data() : nullptr, scale.data(), values.data());
}

std::shared_ptr<Table> random_table(std::int64_t entries, Random& random) {
  auto table = std::make_shared<Table>();
  table->name = "table";
  table->entries = entries;
  table->width = kHidden;
  const Floats values = floats(random_floats(entries * kHidden, random));
  table->f32 = values->data();
  table->owner = values;
  return table;
}

// A pre-norm decoder or a post-norm encoder of two layers, so that every step kind occurs.
std::shared_ptr<Plan> small_model(bool causal, bool quantized, int percent_zero, int threads) {
  Random random(7);
  const auto ones = [&] { return floats(random_floats(kHidden, random)); };
  Program p;
  int x = causal ? p.add<Embed>(random_table(kVocabulary, random), nullptr, nullptr, 0)
                 : p.add<Embed>(random_table(kVocabulary, random), random_table(kPositions, random), random_table(2, random), 0);
  if (!causal) x = p.add<LayerNorm>("embed", x, ones(), ones(), 1e-5f);
  const auto rotary = std::make_shared<Rotary>(random_floats(kHeadDim / 2, random, 3.0f), kPositions);
  for (int layer = 0; layer < 2; ++layer) {
    const int normed = causal ? p.add<RmsNorm>("n1", x, ones(), 1e-5f) : x;
    const int terms = causal ? 2 : 1;
    const std::int64_t kv_heads = causal ? 2 : kHeads;
    int qkv = p.add<Linear>("qkv", normed, random_linear((kHeads + 2 * kv_heads) * kHeadDim, kHidden, quantized, percent_zero, random),
                       floats(random_floats((kHeads + 2 * kv_heads) * kHeadDim, random)), terms);
    if (causal) qkv = p.add<Rope>(qkv, kHeads + kv_heads, kHeadDim, rotary);
    AttentionOptions options;
    if (layer == 1) {
      options = {9, causal ? 4.0f : 0.0f, floats(random_floats(kHeads * 11, random)), floats(random_floats(kHeads, random, 0.1f))};
      const auto gamma = [&](std::int64_t n) { return floats(random_floats(n, random)); };
      qkv = p.add<QkNorm>("qk", qkv, kHeads, kv_heads, kHeadDim, gamma(kHeadDim), gamma(kv_heads * kHeadDim), 1e-5f);
      qkv = p.add<Scale>(qkv, 1.5f);
    }
    int mixed = p.add<Attention>("attention", qkv, kHeads, kv_heads, kHeadDim, causal, 0.3f, options);
    if (!causal && layer == 1) {
      const Floats positions = floats(random_floats(11 * kHeads * kHeadDim, random));
      std::vector<std::int32_t> rows(21);
      for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i / 2);
      mixed = p.add<Add>(mixed, p.add<DisentangledAttention>("positions", qkv, kHeads, kHeadDim, 0.2f, rows, positions, positions));
    }
    x = p.add<Add>(x, p.add<Linear>("out", mixed, random_linear(kHidden, kHidden, quantized, percent_zero, random), nullptr));
    const int inner = causal ? p.add<RmsNorm>("n2", x, ones(), 1e-5f) : p.add<LayerNorm>("n2", x, ones(), ones(), 1e-5f);
    const int up = p.add<Linear>("up", inner, random_linear(160, kHidden, quantized, percent_zero, random), nullptr);
    const int active = causal ? p.add<Gate>(up, "silu") : p.add<Activation>(up, "gelu");
    const int down = p.add<Linear>("down", active, random_linear(kHidden, causal ? 80 : 160, quantized, percent_zero, random), nullptr);
    x = p.add<Add>(causal ? x : inner, down);
    if (!causal && layer == 0) {
      const int joined = p.add<Join>(std::vector<int>{x, mixed, x}, std::vector<std::int64_t>{-1, 0, 2});
      x = p.add<Add>(x, p.add<Linear>("joined", joined, random_linear(kHidden, 3 * kHidden, quantized, percent_zero, random), nullptr));
    }
  }
  p.output("hidden", x);
  if (causal) {
    p.output("logits", p.add<Linear>("head", p.add<RmsNorm>("norm", p.add<SelectLast>(x), ones(), 1e-5f),
                                random_linear(kVocabulary, kHidden, quantized, 0, random), nullptr));
  } else {
    p.output("embedding", p.add<L2Normalize>(p.add<Pool>(p.add<LayerNorm>("norm", x, ones(), ones(), 1e-5f), std::vector<std::string>{"mean"})));
  }
  return std::make_shared<Plan>(std::move(p), threads);
}

struct Tokens {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> offsets{0};
};

Tokens random_tokens(const std::vector<std::int64_t>& lengths, Random& random) {
  Tokens tokens;
  for (std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) tokens.ids.push_back(static_cast<std::int32_t>(random.below(kVocabulary)));
    tokens.offsets.push_back(tokens.offsets.back() + length);
  }
  return tokens;
}

Tokens one_of(const Tokens& tokens, std::size_t s, std::int64_t from = 0, std::int64_t to = -1) {
  Tokens one;
  const std::int64_t begin = tokens.offsets[s] + from, end = to < 0 ? tokens.offsets[s + 1] : tokens.offsets[s] + to;
  one.ids.assign(tokens.ids.begin() + begin, tokens.ids.begin() + end);
  one.offsets.push_back(end - begin);
  return one;
}

std::vector<float> run(Session& session, const Tokens& tokens, const std::string& output, bool last_only = false,
                       const std::vector<std::int64_t>& slots = {}) {
  Batch batch{};
  batch.tokens = tokens.ids.data();
  batch.token_count = static_cast<std::int64_t>(tokens.ids.size());
  batch.offsets = tokens.offsets.data();
  batch.sequences = static_cast<std::int64_t>(tokens.offsets.size()) - 1;
  batch.slots = slots.empty() ? nullptr : slots.data();
  batch.last_only = last_only;
  const Schedule& schedule = session.plan().schedule(output);
  session.check(schedule, batch);
  std::vector<float> y(static_cast<std::size_t>(session.result_rows(schedule, batch) * schedule.result.width));
  session.run(schedule, batch, y.data());
  return y;
}

void check_near(const std::vector<float>& a, const std::vector<float>& b, float tolerance, const std::string& what) {
  CHECK(a.size() == b.size(), what << ": " << a.size() << " and " << b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    CHECK(std::fabs(a[i] - b[i]) <= tolerance * (1.0f + std::fabs(b[i])), what << " [" << i << "]: " << a[i] << " and " << b[i]);
}

// Attention may sum in another order when a block of queries is cut differently, so not bit for bit; with quantized
// linears a last-bit difference may move a code, hence the wider margin.
float margin(bool quantized) { return quantized ? 3e-2f : 1e-4f; }

TEST(runtime_ragged_batch_equals_single_sequences) {
  Random random(3);
  const Tokens tokens = random_tokens({1, 7, 33, 2, 90, 64, 17, 5, 70, 31}, random);
  for (bool causal : {false, true})
    for (bool quantized : {false, true})
      for (int percent_zero : {0, 85})
        for (int threads : {1, 2, 3}) {
          Session session(small_model(causal, quantized, percent_zero, threads));
          const std::vector<float> all = run(session, tokens, "hidden");
          std::vector<float> joined;
          for (std::size_t s = 0; s + 1 < tokens.offsets.size(); ++s) {
            const std::vector<float> one = run(session, one_of(tokens, s), "hidden");
            joined.insert(joined.end(), one.begin(), one.end());
          }
          check_near(all, joined, margin(quantized), "hidden");
          for (float value : all) CHECK(std::isfinite(value), "a value is not finite");
        }
}

template <class F>
void check_refused(const F& f, const std::string& what) {
  try {
    f();
  } catch (const Error&) {
    return;
  }
  CHECK(false, what << " must be refused");
}

// Two terms carry some 15 bits of x: a channel that is 500 times the others drowns them with one term, not with two.
TEST(runtime_two_terms_hold_outliers) {
  constexpr std::int64_t kRows = 300;
  Random random(11);
  auto table = std::make_shared<Table>(*random_table(kVocabulary, random));
  std::vector<float> values(table->f32, table->f32 + kVocabulary * kHidden);
  for (std::int64_t row = 0; row < kVocabulary; ++row) values[row * kHidden + 5] *= 500.0f;
  const Floats owner = floats(values), bias = floats(random_floats(70, random));
  table->f32 = owner->data();
  table->owner = owner;
  const PackedLinear weight = random_linear(70, kHidden, true, 30, random);
  Program p;
  const int x = p.add<Embed>(table, nullptr, nullptr, 0);
  p.output("one", p.add<Linear>("w", x, weight, bias, 1));
  p.output("two", p.add<Linear>("w", x, weight, bias, 2));
  const Tokens tokens = random_tokens({kRows}, random);
  for (int threads : {1, 2}) {
    Session session(std::make_shared<Plan>(p, threads));
    const std::vector<float> one = run(session, tokens, "one"), two = run(session, tokens, "two");
    double error_one = 0, error_two = 0;
    std::vector<float> row(kHidden);
    for (std::int64_t n = 0; n < 70; ++n) {
      weight.row_f32(n, row.data());
      for (std::int64_t t = 0; t < kRows; ++t) {
        double sum = (*bias)[n];
        for (std::int64_t k = 0; k < kHidden; ++k) sum += static_cast<double>(values[tokens.ids[t] * kHidden + k]) * row[k];
        error_one = std::max(error_one, std::fabs(one[t * 70 + n] - sum));
        error_two = std::max(error_two, std::fabs(two[t * 70 + n] - sum));
      }
    }
    // |x| <= 500: half a step is 500 / 254 with one term and a 254th of that with two, times the row's sum of weights.
    CHECK(error_two < kHidden * 0.4 * 500.0 / 254 / 254, error_two);
    CHECK(error_two < error_one / 50, error_one << " and " << error_two);
  }
  check_refused([&] { Program q(p); q.add<Linear>("w", x, weight, nullptr, 3); }, "three terms");
}

// Static limits: steps of their own, shared by readers of one limit, also where norms, activations and sums make the input.
TEST(runtime_limits_of_inputs) {
  Random random(12);
  const auto table = random_table(kVocabulary, random);
  const auto ones = [&] { return floats(std::vector<float>(kHidden, 1.0f)); };
  const auto weight = [&] { return random_linear(kHidden, kHidden, true, 30, random); };
  Program p;
  int x = p.add<Embed>(table, nullptr, nullptr, 0);
  const PackedLinear first = weight();
  x = p.add<Linear>("first", x, first, nullptr, 1, 0.5f);
  const int early = x;
  const int sum = p.add<Add>(x, p.add<Linear>("second", x, weight(), nullptr));
  const int normed = p.add<LayerNorm>("n", sum, ones(), ones(), 1e-5f);  // the sum is added inside it
  int y = p.add<Linear>("tight", normed, weight(), nullptr, 1, 1.5f);
  y = p.add<Add>(y, p.add<Linear>("tight too", normed, weight(), nullptr, 1, 1.5f));
  y = p.add<Add>(y, p.add<Linear>("wide", normed, weight(), nullptr, 1, 4.0f));
  y = p.add<Add>(y, p.add<Linear>("dynamic", normed, weight(), nullptr));
  y = p.add<Add>(y, p.add<Linear>("of the sum", sum, weight(), nullptr, 1, 2.0f));
  y = p.add<Add>(y, p.add<Linear>("active", p.add<Activation>(y, "relu"), weight(), nullptr, 1, 3.0f));
  y = p.add<Add>(y, p.add<Linear>("floats", y, random_linear(kHidden, kHidden, false, 30, random), nullptr, 1, 1.0f));
  p.output("early", early);
  p.output("late", y);

  const auto plan = std::make_shared<Plan>(p, 2);
  std::vector<std::string> made;
  for (const Step& step : plan->schedule("late").steps)
    if (const auto* quantize = dynamic_cast<const Quantize*>(step.op))
      made.push_back(quantize->name() + " " + std::to_string(quantize->limit()).substr(0, 3));
  const std::vector<std::string> expected{"table 0.5", "first 0.0", "add 2.0", "n 1.5", "n 4.0", "relu 3.0"};
  CHECK(made == expected, made.size() << " quantize steps, the first of " << made.front());

  const Tokens tokens = random_tokens({5, 90, 31}, random);
  Session session(plan);
  const std::vector<float> early_values = run(session, tokens, "early"), late = run(session, tokens, "late");
  std::vector<float> row(kHidden);
  for (std::int64_t n = 0; n < kHidden; ++n) {
    first.row_f32(n, row.data());
    for (std::size_t t = 0; t < tokens.ids.size(); ++t) {
      double total = 0;
      for (std::int64_t k = 0; k < kHidden; ++k) {
        const float code = std::nearbyint(table->f32[tokens.ids[t] * kHidden + k] * (127.0f / 0.5f));
        total += static_cast<double>(std::fmin(127.0f, std::fmax(-127.0f, code))) * (0.5f / 127.0f) * row[k];
      }
      CHECK(std::fabs(early_values[t * kHidden + n] - total) < 1e-4, early_values[t * kHidden + n] << " and " << total);
    }
  }
  for (float value : late) CHECK(std::isfinite(value), "a value is not finite");
  std::vector<float> joined;
  for (std::size_t s = 0; s + 1 < tokens.offsets.size(); ++s) {
    const std::vector<float> one = run(session, one_of(tokens, s), "late");
    joined.insert(joined.end(), one.begin(), one.end());
  }
  check_near(late, joined, 0.0f, "late");

  for (float limit : {-1.0f, std::nanf(""), HUGE_VALF, 1e-38f})
    check_refused([&] { Program q(p); q.add<Linear>("w", x, first, nullptr, 1, limit); }, "a limit of " + std::to_string(limit));
  check_refused([&] { Program q(p); q.add<Linear>("w", x, first, nullptr, 2, 1.0f); }, "a limit and two terms");
}

TEST(runtime_every_output_alone) {
  Random random(4);
  const Tokens tokens = random_tokens({3, 50, 8}, random);
  Session encoder(small_model(false, true, 80, 2));
  const std::vector<float> embedding = run(encoder, tokens, "embedding");
  CHECK(embedding.size() == 3 * kHidden, embedding.size());
  for (int s = 0; s < 3; ++s) {
    float norm = 0;
    for (std::int64_t i = 0; i < kHidden; ++i) norm += embedding[s * kHidden + i] * embedding[s * kHidden + i];
    CHECK(std::fabs(norm - 1.0f) < 1e-5f, norm);
  }
  Session decoder(small_model(true, true, 0, 2));
  const std::vector<float> all = run(decoder, tokens, "logits"), last = run(decoder, tokens, "logits", true);
  CHECK(all.size() == 61 * kVocabulary && last.size() == 3 * kVocabulary, all.size() << " and " << last.size());
  for (int s = 0; s < 3; ++s) {
    const std::vector<float> a(all.begin() + (tokens.offsets[s + 1] - 1) * kVocabulary, all.begin() + tokens.offsets[s + 1] * kVocabulary);
    const std::vector<float> b(last.begin() + s * kVocabulary, last.begin() + (s + 1) * kVocabulary);
    check_near(a, b, margin(true), "last logits");
  }
}

TEST(runtime_cache_equals_whole_sequence) {
  Random random(5);
  const Tokens tokens = random_tokens({40, 90}, random);
  for (bool quantized : {false, true}) {
    Session session(small_model(true, quantized, 0, 2));
    const std::vector<float> whole = run(session, tokens, "logits", true);
    // Both sequences in pieces: a prefill, single tokens, and a few at once.
    for (std::size_t s : {0u, 1u}) {
      const std::int64_t slot = static_cast<std::int64_t>(s) + 10, length = tokens.offsets[s + 1] - tokens.offsets[s];
      std::int64_t done = 0;
      std::vector<float> logits;
      for (std::int64_t step : {13, 1, 1, 1, 7, 1}) {
        logits = run(session, one_of(tokens, s, done, done + step), "logits", true, {slot});
        done += step;
        CHECK(session.slot_length(slot) == done, session.slot_length(slot));
      }
      logits = run(session, one_of(tokens, s, done), "logits", true, {slot});
      CHECK(session.slot_length(slot) == length, session.slot_length(slot));
      const std::vector<float> expected(whole.begin() + s * kVocabulary, whole.begin() + (s + 1) * kVocabulary);
      check_near(logits, expected, margin(quantized), "logits");
      session.free_slot(slot);
      CHECK(session.slot_length(slot) == 0, "a freed slot is empty");
    }
  }
}

// As float32 the numbers are those that are computed with without a cache; in fewer bits they are near to them.
TEST(runtime_cache_in_fewer_bits) {
  Random random(15);
  const Tokens tokens = random_tokens({90, 70}, random);
  const std::shared_ptr<Plan> plan = small_model(true, false, 0, 2);
  const auto logits = [&](Kept kept) {
    Session session(plan, kept);
    std::vector<float> all;
    for (std::int64_t done = 0; done < 70; done += 10) {
      Tokens both = one_of(tokens, 0, done, done + 10);
      const Tokens second = one_of(tokens, 1, done, done + 10);
      both.ids.insert(both.ids.end(), second.ids.begin(), second.ids.end());
      both.offsets.push_back(20);
      const std::vector<float> some = run(session, both, "logits", true, {3, 8});
      all.insert(all.end(), some.begin(), some.end());
    }
    const std::vector<float> single = run(session, one_of(tokens, 0, 70, 71), "logits", true, {3});
    all.insert(all.end(), single.begin(), single.end());
    return all;
  };
  const std::vector<float> exact = logits(Kept::float32);
  check_near(logits(Kept::float16), exact, 3e-3f, "f16");
  check_near(logits(Kept::int8), exact, 8e-2f, "int8");
  CHECK(logits(Kept::float16) != exact && logits(Kept::int8) != logits(Kept::float16), "the numbers are those that were asked for");
}

// A slot that shares tokens goes on as the one that ran them, and neither sees the other's later tokens.
TEST(runtime_slots_share_tokens) {
  Random random(16);
  const Tokens tokens = random_tokens({96, 96}, random);
  for (Kept kept : {Kept::float32, Kept::float16, Kept::int8})
    for (std::int64_t shared : {1, 63, 64, 70}) {
      Session session(small_model(true, false, 0, 2), kept);
      run(session, one_of(tokens, 0, 0, 70), "hidden", false, {0});
      session.share_slot(0, 1, shared);
      run(session, one_of(tokens, 0, 0, shared), "hidden", false, {2});
      CHECK(session.slot_length(1) == shared, session.slot_length(1));
      const auto run_behind = [&](std::int64_t slot) { return run(session, one_of(tokens, 1, shared, 90), "hidden", false, {slot}); };
      const std::vector<float> by_share = run_behind(1), alone = run_behind(2);
      // The shared rows were summed in another order, so a kept number may be rounded to its neighbour.
      const float tolerance = kept == Kept::float32 ? 1e-4f : kept == Kept::float16 ? 3e-3f : 8e-2f;
      check_near(by_share, alone, tolerance, "behind shared tokens");
      const std::vector<float> first = run(session, one_of(tokens, 0, 70, 80), "hidden", false, {0});
      run(session, one_of(tokens, 0, 0, 70), "hidden", false, {4});
      check_near(first, run(session, one_of(tokens, 0, 70, 80), "hidden", false, {4}), 1e-4f, "of the one that lent them");
      session.truncate_slot(1, 1);
      check_near(run(session, one_of(tokens, 0, 80, 81), "hidden", false, {0}), run(session, one_of(tokens, 0, 80, 81), "hidden", false, {4}), 1e-4f, "after the other forgot");
    }
  Session session(small_model(true, false, 0, 1));
  run(session, one_of(tokens, 0, 0, 70), "hidden", false, {0});
  check_refused([&] { session.share_slot(0, 1, 71); }, "more tokens than there are");
  check_refused([&] { session.share_slot(0, 1, -1); }, "a negative number of tokens");
  check_refused([&] { session.share_slot(0, 0, 3); }, "a slot that is not empty");
  check_refused([&] { session.share_slot(5, 1, 1); }, "tokens of an empty slot");
  session.share_slot(5, 0 + 1, 0);
  const std::size_t before = session.cache_bytes();
  session.share_slot(0, 1, 70);
  CHECK(session.cache_bytes() == before, "sharing takes memory");
  session.free_slot(0);
  CHECK(session.cache_bytes() == before, "what is shared is kept");
  session.free_slot(1);
  CHECK(session.cache_bytes() == 0 && session.slot_length(1) == 0, session.cache_bytes());
}

TEST(runtime_several_callers_of_one_plan) {
  Random random(6);
  const std::shared_ptr<Plan> plan = small_model(false, true, 80, 2);
  const Tokens tokens = random_tokens({20, 60, 33, 80, 70}, random);
  Session first(plan);
  const std::vector<float> expected = run(first, tokens, "embedding");
  std::vector<std::thread> callers;
  std::vector<std::string> failures(4);
  for (std::string& failure : failures)
    callers.emplace_back([&] {
      try {
        Session session(plan);
        for (int i = 0; i < 20; ++i) check_near(run(session, tokens, "embedding"), expected, 0.0f, "embedding");
      } catch (const std::exception& error) {
        failure = error.what();
      }
    });
  for (std::thread& caller : callers) caller.join();
  for (const std::string& failure : failures) CHECK(failure.empty(), failure);
}

TEST(runtime_refuses_broken_batches) {
  Random random(8);
  Session encoder(small_model(false, true, 0, 1)), decoder(small_model(true, true, 0, 1));
  const Tokens good = random_tokens({4, 5}, random);
  const auto refused = [&](Session& session, Tokens tokens, const std::string& what, const std::vector<std::int64_t>& slots = {}) {
    check_refused([&] { run(session, tokens, "hidden", false, slots); }, what);
  };
  Tokens bad = good;
  bad.ids[3] = kVocabulary;
  refused(encoder, bad, "an id beyond the table");
  bad.ids[3] = -1;
  refused(encoder, bad, "a negative id");
  bad = good;
  bad.offsets = {0, 0, 9};
  refused(encoder, bad, "an empty sequence");
  bad.offsets = {0, 10, 9};
  refused(encoder, bad, "offsets that fall");
  bad.offsets = {1, 9};
  refused(encoder, bad, "offsets that do not start at 0");
  bad.offsets = {0, 8};
  refused(encoder, bad, "offsets that do not end at the last token");
  refused(encoder, random_tokens({kPositions + 1}, random), "more tokens than positions");
  refused(encoder, good, "slots without causal attention", {0, 1});
  refused(decoder, good, "one slot twice", {2, 2});
  run(decoder, random_tokens({kPositions}, random), "hidden", false, {0});
  refused(decoder, random_tokens({1}, random), "a full slot", {0});
  check_refused([&] { run(encoder, good, "scores"); }, "an unknown output");
}

TEST(program_refuses_wrong_shapes) {
  Random random(9);
  Program p;
  const int x = p.add<Embed>(random_table(kVocabulary, random), nullptr, nullptr, 0);
  const auto ones = [&](std::int64_t n) { return floats(std::vector<float>(static_cast<std::size_t>(n), 1.0f)); };
  check_refused([&] { p.add<LayerNorm>("n", x, ones(kHidden - 1), nullptr, 1e-5f); }, "a norm of another width");
  check_refused([&] { p.add<Linear>("w", x, random_linear(8, kHidden + 1, false, 0, random), nullptr); }, "a weight of another width");
  check_refused([&] { p.add<Linear>("w", x, random_linear(8, kHidden, false, 0, random), ones(9)); }, "a bias of another length");
  check_refused([&] { p.add<Attention>("a", x, 4, 3, 4, false, 1.0f); }, "kv_heads that do not divide heads");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 5, false, 1.0f); }, "heads that do not fit");
  const auto options = [&](std::optional<std::int64_t> window, float softcap, std::int64_t biases, std::int64_t slopes) {
    return AttentionOptions{window, softcap, biases < 0 ? nullptr : ones(biases), slopes < 0 ? nullptr : ones(slopes)};
  };
  p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(0, 2.0f, 12, 4));
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(-1, 0.0f, -1, -1)); }, "a negative window");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(3, -2.0f, -1, -1)); }, "a negative cap");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(3, std::nanf(""), -1, -1)); }, "a cap that is none");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(3, 0.0f, 8, -1)); }, "an even number of distances");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(3, 0.0f, 13, -1)); }, "biases that heads do not share");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(3, 0.0f, 0, -1)); }, "no biases");
  check_refused([&] { p.add<Attention>("a", x, 4, 4, 4, false, 1.0f, options(3, 0.0f, -1, 3)); }, "too few slopes");
  check_refused([&] { p.add<QkNorm>("q", x, 4, 4, 4, ones(4), ones(5), 1e-5f); }, "a norm of half a head");
  check_refused([&] { p.add<QkNorm>("q", x, 4, 4, 4, ones(16), nullptr, 1e-5f); }, "a norm without weights");
  check_refused([&] { p.add<Gate>(x, "tanh"); }, "an unknown gate");
  const auto turned = [](std::size_t pairs) { return std::make_shared<Rotary>(std::vector<float>(pairs, 0.5f), 8); };
  check_refused([&] { p.add<Rope>(x, 4, 4, turned(3)); }, "more pairs than columns of a head");
  check_refused([&] { p.add<Rope>(x, 100, 4, turned(2)); }, "more heads than columns");
  check_refused([&] { p.add<Rope>(x, 4, 4, nullptr); }, "no angles");
  check_refused([&] { p.add<Add>(x, 99); }, "a value that does not exist");
  check_refused([&] { p.add<Activation>(x, "swish7"); }, "an unknown activation");
  check_refused([&] { p.add<Pool>(x, std::vector<std::string>{"median"}); }, "an unknown pooling");
  check_refused([&] { p.add<Pool>(x, std::vector<std::string>{}); }, "no pooling");
  check_refused([&] { Plan plan(Program(), 1); }, "a program without output");
}

// An op is its class and nothing else: the runtime plans and runs one that it has never seen.
class Twice : public Op {
 public:
  Twice(const Program& program, std::vector<int> x) : Op("twice", "twice", x, program.value("twice", x.at(0))) {}
  bool in_place() const override { return true; }
  void run(const Work& work) const override {
    const std::int64_t width = result().width;
    work.over_rows(work.rows(), width, [&](std::int64_t begin, std::int64_t count, int) {
      for (std::int64_t i = begin * width; i < (begin + count) * width; ++i) work.y()[i] = 2 * work.x()[i];
    });
  }
};

TEST(runtime_runs_an_op_of_its_own) {
  Random random(13);
  const auto table = random_table(kVocabulary, random);
  const PackedLinear weight = random_linear(20, kHidden, true, 0, random);
  const auto made = [&](bool twice) {
    Program p;
    int x = p.add<Embed>(table, nullptr, nullptr, 0);
    p.output("table", x);
    x = p.add<Add>(x, x);
    if (twice) x = p.add<Twice>(std::vector<int>{x});
    p.output("read as codes", p.add<Linear>("w", x, weight, nullptr));
    return std::make_shared<Plan>(std::move(p), 2);
  };
  const Tokens tokens = random_tokens({3, 200}, random);
  Session with(made(true)), without(made(false));
  const std::vector<float> got = run(with, tokens, "read as codes"), half = run(without, tokens, "read as codes");
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == 2 * half[i], got[i] << " at " << i << ", expected " << 2 * half[i]);
  const std::vector<Step>& steps = with.plan().schedule("read as codes").steps;
  std::string kinds;
  for (const Step& step : steps) kinds += std::string(" ") + step.op->kind();
  CHECK(kinds == " embed add twice quantize linear", kinds);
  CHECK(steps[2].y == steps[2].x[0], "twice works in place");
  check_refused([&] { Program p; p.add<Embed>(table, nullptr, nullptr, 0); p.add<Twice>(std::vector<int>{0, 0}); }, "an op in place with two inputs");
}

}  // namespace
}  // namespace aerogel
