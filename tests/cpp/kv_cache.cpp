// The blocks of the KV cache against a plain model of it: each slot a list of rows. And how many blocks there are.
#include "runtime/kv_cache.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "check.h"
#include "kernels/table.h"

namespace aerogel {
namespace {

using namespace testing;

// Of one layer with keys and values as asked for, and of one with exact keys alone.
const std::vector<KvShape> kShapes{{2, 12}, {1, 40, true, false}};

// What stands in both layers' rows of a token: as many numbers, small enough to be the same in every format.
std::vector<float> row_of(int mark) {
  std::vector<float> row(64);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>((mark * 31 + static_cast<int>(i) * 7) % 255 - 127);
  for (std::size_t head = 0; head < 4; ++head) row[head * 12] = 127;  // so that a row's int8 scale is 1
  return row;
}

void write(KvSequence& sequence, std::int64_t position, int mark) {
  const std::vector<float> row = row_of(mark);
  const auto keep = [&](int number, const float* x, const KeptPlace& place) {
    const KvLayout::Layer& layer = sequence.layer(number);
    ops_for(active_isa()).keep_rows({x, 64, 1, layer.heads, layer.head_dim, layer.numbers, sequence.blocks(), position, place});
  };
  keep(0, row.data(), sequence.layer(0).keys);
  keep(0, row.data() + 24, sequence.layer(0).values);
  keep(1, row.data(), sequence.layer(1).keys);
}

float number_at(const KvSequence& sequence, const KeptPlace& place, const KvLayout::Layer& layer, std::int64_t token, std::int64_t column) {
  const std::uint8_t* const block = sequence.blocks()[token / kKeptTokens];
  const std::int64_t row = token % kKeptTokens, head = column / layer.head_dim, at = row * layer.head_dim + column % layer.head_dim;
  const KeptPlace own = layer.of_head(place, head);
  switch (layer.numbers) {
    case Kept::float32: return reinterpret_cast<const float*>(block + own.at)[at];
    case Kept::float16: {  // whole numbers under 128
      const std::uint16_t code = reinterpret_cast<const std::uint16_t*>(block + own.at)[at];
      const int exponent = (code >> 10 & 31) - 25;
      const float magnitude = code << 1 == 0 ? 0.0f : std::ldexp(static_cast<float>(1024 + (code & 1023)), exponent);
      return code >> 15 != 0 ? -magnitude : magnitude;
    }
    case Kept::int8: return reinterpret_cast<const std::int8_t*>(block + own.at)[at] * reinterpret_cast<const float*>(block + own.scales)[row];
  }
  return 0.0f;
}

void check_row(const KvSequence& sequence, std::int64_t token, int mark, const std::string& where) {
  const std::vector<float> row = row_of(mark);
  const KvLayout::Layer& first = sequence.layer(0);
  for (std::int64_t c = 0; c < 24; ++c) {
    const float key = number_at(sequence, first.keys, first, token, c), value = number_at(sequence, first.values, first, token, c);
    CHECK(key == row[c] && value == row[24 + c], where << " token " << token << " column " << c << ": " << key << " and " << value);
  }
  for (std::int64_t c = 0; c < 40; ++c) CHECK(sequence.key(1, 0, token)[c] == row[c], where << " token " << token << " exact column " << c);
}

TEST(kv_cache_does_as_a_plain_model_of_it) {
  for (Kept numbers : {Kept::float32, Kept::float16, Kept::int8}) {
    Random random(static_cast<std::uint64_t>(numbers) + 1);
    KvCache cache(kShapes, numbers);
    std::map<std::int64_t, std::vector<int>> model;
    int next = 0;
    for (int step = 0; step < 600; ++step) {
      const std::int64_t slot = random.below(5), other = random.below(5);
      std::vector<int>& tokens = model[slot];
      const auto size = static_cast<std::int64_t>(tokens.size());
      switch (random.below(8)) {
        case 0: case 1: case 2: {  // tokens are appended
          KvSequence& sequence = cache.slot(slot);
          const std::int64_t count = random.below(3) == 0 ? 1 + random.below(150) : 1 + random.below(3);
          if (size + count > 500) break;
          sequence.reserve(size + count);
          for (std::int64_t t = 0; t < count; ++t) {
            tokens.push_back(next++);
            write(sequence, size + t, tokens.back());
          }
          sequence.advance(count);
          break;
        }
        case 3: cache.slot(slot).reserve(size + random.below(100)); break;  // a call that was stopped
        case 4: case 5: {
          const std::int64_t length = size == 0 ? 0 : random.below(size + 1);
          cache.slot(slot).truncate(length);
          tokens.resize(static_cast<std::size_t>(length));
          break;
        }
        case 6:
          if (other != slot) {
            const std::vector<int>& from = model[other];
            const std::int64_t length = random.below(static_cast<std::int64_t>(from.size()) + 1);
            cache.slot(slot).share(cache.slot(other), length);
            tokens.assign(from.begin(), from.begin() + length);
          }
          break;
        default:
          if (random.below(4) == 0) {
            cache.free(slot);
            tokens.clear();
          }
      }
      for (const auto& [number, expected] : model) {
        CHECK(cache.length(number) == static_cast<std::int64_t>(expected.size()), "length of slot " << number);
        // All of the slot that was changed; of the others each token now and then.
        for (std::int64_t t = number == slot ? 0 : step % 13; t < static_cast<std::int64_t>(expected.size()); t += number == slot ? 1 : 13)
          check_row(cache.slot(number), t, expected[t], "step " + std::to_string(step) + " slot " + std::to_string(number));
      }
    }
    for (std::int64_t slot = 0; slot < 5; ++slot) cache.free(slot);
    CHECK(cache.bytes() == 0, cache.bytes() << " bytes of empty slots");
  }
}

TEST(kv_cache_blocks_are_shared_until_they_differ) {
  KvCache cache(kShapes, Kept::float32);
  const auto blocks = [&] { return cache.bytes() / (KvLayout(kShapes, Kept::float32).block_bytes() + kCacheLine); };
  const auto grow = [&](std::int64_t slot, std::int64_t tokens) {
    cache.slot(slot).reserve(cache.length(slot) + tokens);
    cache.slot(slot).advance(tokens);
  };
  grow(0, 130);
  CHECK(blocks() == 3, blocks());
  cache.slot(1).share(cache.slot(0), 129);
  cache.slot(2).share(cache.slot(0), 128);
  CHECK(blocks() == 3, blocks());
  grow(2, 1);  // behind whole blocks
  CHECK(blocks() == 4, blocks());
  grow(1, 1);  // in the middle of one
  CHECK(blocks() == 5, blocks());
  grow(0, 62);  // which is its own by now
  CHECK(blocks() == 5, blocks());
  cache.slot(1).truncate(100);
  CHECK(blocks() == 4, blocks());
  grow(1, 1);
  CHECK(blocks() == 5, blocks());
  CHECK(cache.free(0) > 0 && blocks() == 4, blocks());  // the first two are others' too
  cache.free(1);
  cache.free(2);
  CHECK(blocks() == 0, blocks());
}

// 32,768 tokens take what arithmetic says, and growing copies nothing.
TEST(kv_cache_takes_what_arithmetic_says) {
  const std::vector<KvShape> shapes{{2, 64}, {2, 64}, {1, 64}};
  constexpr std::int64_t kTokens = 32768, kNumbers = 2 * (2 * 64 + 2 * 64 + 64) * kTokens;
  for (const auto& [numbers, bytes] : {std::pair{Kept::float32, 4}, {Kept::float16, 2}, {Kept::int8, 1}}) {
    KvCache cache(shapes, numbers);
    KvSequence& sequence = cache.slot(0);
    sequence.reserve(1);
    const std::uint8_t* const first = sequence.blocks()[0];
    for (std::int64_t t = 0; t < kTokens; t += 100) {
      sequence.reserve(std::min(kTokens, t + 100));
      sequence.advance(std::min<std::int64_t>(100, kTokens - t));
    }
    CHECK(sequence.blocks()[0] == first, "the first block has moved");
    const double times = static_cast<double>(cache.bytes()) / static_cast<double>(kNumbers * bytes);
    CHECK(times >= 1.0 && times < 1.1, times << " times " << bytes << " bytes a number");
  }
}

}  // namespace
}  // namespace aerogel
