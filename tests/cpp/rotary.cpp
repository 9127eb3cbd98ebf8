// The tables of rotary embeddings: right at any position, grown as far as they are used, by any number of threads; and which
// of them a sequence turns by.
#include "runtime/rotary.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include "base/error.h"
#include "check.h"
#include "runtime/ops/embed.h"
#include "runtime/ops/rope.h"
#include "runtime/session.h"

using namespace aerogel;

namespace {

const std::vector<float> kFrequencies = {1.0f, 0.31622776f, 0.1f};

// What a table has to hold: the angle rounded to float, its cosine and sine rounded once more.
float cosine(std::int64_t position, float frequency) {
  return static_cast<float>(std::cos(static_cast<double>(static_cast<float>(position) * frequency)));
}
float sine(std::int64_t position, float frequency) {
  return static_cast<float>(std::sin(static_cast<double>(static_cast<float>(position) * frequency)));
}

void check_row(const Rotary& rotary, std::int64_t position, std::int64_t length, const std::vector<float>& frequencies, float scale) {
  const Rotary::Rows rows = rotary.rows(position, length);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const std::int64_t at = (position - rows.first) * rotary.pairs() + static_cast<std::int64_t>(i);
    CHECK(rows.cos[at] == cosine(position, frequencies[i]) * scale && rows.sin[at] == sine(position, frequencies[i]) * scale,
          "rotary: position " << position << " pair " << i << ": " << rows.cos[at] << ", " << rows.sin[at]);
  }
}

template <class Refusal, class F>
void check_refused(const F& f, const char* what) {
  bool refused = false;
  try {
    f();
  } catch (const Refusal&) {
    refused = true;
  }
  CHECK(refused, "rotary: " << what << " was not refused");
}

// One rope over [tokens, heads * head_dim] rows of `table`, each sequence's tokens being the rows in order.
std::vector<float> roped(const std::vector<float>& table, std::int64_t head_dim, const std::shared_ptr<Rotary>& rotary,
                         const std::vector<std::int64_t>& offsets, int threads) {
  auto rows = std::make_shared<Table>();
  rows->name = "rows";
  rows->width = head_dim;
  rows->entries = static_cast<std::int64_t>(table.size()) / head_dim;
  rows->f32 = table.data();
  Program p;
  const int x = p.add<Embed>(rows, nullptr, nullptr, 0);
  p.output("y", p.add<Rope>(x, 1, head_dim, rotary));
  Session session(std::make_shared<Plan>(std::move(p), threads));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows->entries));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  Batch batch{ids.data(), nullptr, rows->entries, offsets.data(), static_cast<std::int64_t>(offsets.size()) - 1, nullptr, false};
  const Schedule& schedule = session.plan().schedule("y");
  session.check(schedule, batch);
  std::vector<float> y(table.size());
  session.run(schedule, batch, y.data());
  return y;
}

}  // namespace

TEST(rotary_tables) {
  const Rotary rotary(kFrequencies, 1 << 20, 1.5f);
  CHECK(rotary.table_bytes() == 0, "rotary: tables before anybody needs them");
  rotary.reserve(3);
  const std::size_t block = static_cast<std::size_t>(2 * Rotary::kBlock * 3) * sizeof(float);
  CHECK(rotary.table_bytes() == block, "rotary: " << rotary.table_bytes() << " bytes for 3 positions");
  const float* const there = rotary.rows(0, 3).cos;
  rotary.reserve(Rotary::kBlock + 1);
  CHECK(rotary.table_bytes() == 2 * block, "rotary: " << rotary.table_bytes() << " bytes for a block and a position");
  CHECK(rotary.rows(0, 3).cos == there, "rotary: a block has moved");
  for (std::int64_t position : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, Rotary::kBlock - 1, Rotary::kBlock})
    check_row(rotary, position, position + 1, kFrequencies, 1.5f);
  rotary.reserve(100'001);
  for (std::int64_t position : {50'000, 99'999, 100'000}) check_row(rotary, position, position + 1, kFrequencies, 1.5f);
}

TEST(rotary_threads) {
  const Rotary rotary(kFrequencies, 1 << 16, 1.0f, Rotary::Beyond{4000, {0.5f, 0.2f, 0.01f}, {0, 0}});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&rotary, t] {
      for (std::int64_t length = 1 + t; length < 9000; length += 700) {
        rotary.reserve(length);
        const bool is_long = length > 4000;
        for (std::int64_t position = 0; position < length; position += 333) {
          const Rotary::Rows rows = rotary.rows(position, length);
          const float expected = cosine(position, is_long ? 0.5f : 1.0f);
          if (rows.cos[(position - rows.first) * 3] != expected) std::abort();
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  check_row(rotary, 3999, 4000, kFrequencies, 1.0f);
  check_row(rotary, 3999, 8000, {0.5f, 0.2f, 0.01f}, 1.0f);
}

// Base 10000 and d = 6; beyond 8 positions it is 10000 * (2 n / 8 - 1)^(6 / 4).
TEST(rotary_growth) {
  const Rotary rotary(kFrequencies, 64, 1.0f, Rotary::Beyond{8, {}, {10000.0f, 2.0f}});
  std::vector<float> found(3);
  rotary.frequencies(8, found.data());
  CHECK(found == kFrequencies, "rotary: frequencies at the original length");
  CHECK(rotary.has_table(8) && !rotary.has_table(9), "rotary: tables of a base that grows");
  for (std::int64_t length : {9, 16, 64}) {
    rotary.frequencies(length, found.data());
    const double base = 10000.0 * std::pow(2.0 * static_cast<double>(length) / 8 - 1, 1.5);
    for (int i = 0; i < 3; ++i) {
      const double wanted = std::pow(base, -2.0 * i / 6);
      CHECK(std::fabs(found[i] - wanted) <= 1e-6 * wanted, "rotary: length " << length << ": " << found[i] << ", expected " << wanted);
    }
  }
}

// Every sequence of a batch turns by its own length, whoever is beside it and however many threads share the work.
TEST(rotary_of_each_sequence) {
  const std::vector<std::int64_t> lengths = {3, 600, 8, 9, 1, 530};
  std::vector<std::int64_t> offsets = {0};
  for (std::int64_t length : lengths) offsets.push_back(offsets.back() + length);
  const std::vector<float> longer = {0.7f, 0.03f, 0.002f};
  const std::int64_t head_dim = 9;
  std::vector<float> table(static_cast<std::size_t>(offsets.back() * head_dim));
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 25;
  for (const bool grows : {false, true})
    for (int threads : {1, 3}) {
      const auto rotary = std::make_shared<Rotary>(
          kFrequencies, 4096, 1.25f, Rotary::Beyond{8, grows ? std::vector<float>() : longer, {10000.0f, 4.0f}});
      const std::vector<float> y = roped(table, head_dim, rotary, offsets, threads);
      for (std::size_t s = 0; s < lengths.size(); ++s) {
        std::vector<float> frequencies(3);
        rotary->frequencies(lengths[s], frequencies.data());
        CHECK((frequencies == kFrequencies) == (lengths[s] <= 8), "rotary: the frequencies of " << lengths[s] << " positions");
        for (std::int64_t p = 0; p < lengths[s]; ++p)
          for (std::int64_t c = 0; c < head_dim; ++c) {
            const std::int64_t base = (offsets[s] + p) * head_dim, i = c % 3;
            const double a = table[base + i], b = table[base + i + 3];
            const double co = cosine(p, frequencies[i]) * 1.25f, si = sine(p, frequencies[i]) * 1.25f;
            const double wanted = c >= 6 ? table[base + c] : c < 3 ? a * co - b * si : b * co + a * si;
            CHECK(std::fabs(y[base + c] - wanted) <= 1e-5, "rotary: grows " << grows << " sequence " << s << " position " << p << " column "
                                                                            << c << ": " << y[base + c] << ", expected " << wanted);
          }
      }
    }
}

TEST(rotary_refused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  using Beyond = Rotary::Beyond;
  check_refused<ShapeError>([] { Rotary({}, 4); }, "no frequency");
  check_refused<ShapeError>([] { Rotary({1.0f}, 0); }, "no position");
  check_refused<ShapeError>([] { Rotary({1.0f}, std::int64_t{1} << 31); }, "too many positions");
  check_refused<DataError>([&] { Rotary({1.0f, nan}, 4); }, "a frequency that is not finite");
  check_refused<DataError>([&] { Rotary({1.0f}, 4, nan); }, "a scale that is not finite");
  check_refused<ShapeError>([] { Rotary({1.0f, 0.5f}, 4, 1.0f, Beyond{2, {1.0f}, {0, 0}}); }, "other frequencies than pairs");
  check_refused<ShapeError>([] { Rotary({1.0f, 0.5f}, 4, 1.0f, Beyond{0, {1.0f, 0.5f}, {0, 0}}); }, "a switch at the start");
  check_refused<DataError>([] { Rotary({1.0f}, 4, 1.0f, Beyond{2, {}, {10000.0f, 2.0f}}); }, "growth of one pair");
  check_refused<DataError>([] { Rotary({1.0f, 0.5f}, 4, 1.0f, Beyond{2, {}, {10000.0f, 0.5f}}); }, "growth that shrinks");
}
