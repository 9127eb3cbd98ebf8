// The compressed form of byte tensors: what goes in comes out on every instruction set; the blobs are the same everywhere; and
// whatever a blob holds, it is decoded to the right bytes or refused.
#include "codec/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"
#include "check.h"
#include "codec/checksum.h"
#include "codec/frequencies.h"
#include "codec/rans.h"
#include "codec/windows.h"

namespace aerogel {
namespace {

using namespace testing;
using Bytes = std::vector<std::uint8_t>;
using Shape = std::vector<std::int64_t>;

struct Tensor {
  std::string name;
  ByteType dtype;
  Shape shape;
  Bytes data;
};

// A memory block of exactly so many bytes, so that the address sanitizer sees one too many.
std::unique_ptr<std::uint8_t[]> exact(const Bytes& bytes) {
  auto copy = std::make_unique<std::uint8_t[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return copy;
}

Bytes decode(const Bytes& blob, Isa isa = Isa::scalar, int threads = 1) {
  const auto copy = exact(blob);
  const CodedHeader header = coded_header("w", copy.get(), blob.size());
  if (header.size > (std::int64_t{1} << 26)) throw DataError("w: too large for a test");
  const auto out = std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(header.size));
  decode_bytes("w", header, copy.get(), blob.size(), out.get(), threads, isa);
  return {out.get(), out.get() + header.size};
}

Bytes make(std::int64_t n, std::uint64_t seed, const std::function<int(Random&)>& next) {
  Random random(seed);
  Bytes data(static_cast<std::size_t>(n));
  for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(next(random));
  return data;
}

// A sum of uniform numbers: bell-shaped codes.
int code(Random& random) {
  int sum = 0;
  for (int i = 0; i < 6; ++i) sum += static_cast<int>(random.below(40));
  return sum - 117;
}

int mask_byte(Random& random, std::int64_t percent) {
  int byte = 0;
  for (int bit = 0; bit < 8; ++bit) byte |= (random.below(100) < percent ? 1 : 0) << bit;
  return byte;
}

// Windows of 64 columns with q bits each.
Bytes windows(std::int64_t count, int q, std::uint64_t seed) {
  Random random(seed);
  Bytes data(static_cast<std::size_t>(8 * count));
  for (std::int64_t w = 0; w < count; ++w)
    for (int set = 0; set < q;) {
      const std::int64_t bit = random.below(64);
      std::uint8_t& byte = data[static_cast<std::size_t>(8 * w + bit / 8)];
      if ((byte >> bit % 8 & 1) != 0) continue;
      byte = static_cast<std::uint8_t>(byte | 1 << bit % 8);
      ++set;
    }
  return data;
}

std::vector<Tensor> tensors() {
  std::vector<Tensor> all;
  for (std::int64_t n : {600, 4097, 16384, 16391, 65536, 65544, 262144, 262145, 400003})
    all.push_back({"codes", ByteType::i8, {n}, make(n, static_cast<std::uint64_t>(n), code)});
  for (int percent : {0, 1, 5, 20, 50, 99, 100})
    all.push_back({"mask", ByteType::u8, {96, 96}, make(96 * 96, 7, [&](Random& random) { return mask_byte(random, percent); })});
  for (int q : {0, 1, 2, 8, 31, 32, 33, 63, 64}) all.push_back({"windows", ByteType::u8, {64, 48}, windows(64 * 6, q, 3)});
  all.push_back({"windows", ByteType::u8, {1000, 96}, windows(12000, 8, 3)});
  for (std::int64_t repeat : {2, 3, 4, 5})
    for (std::int64_t rows : {2, 3, 4, 63, 64, 65}) {
      Tensor tensor{"rows", ByteType::u8, {rows, 96}, {}};
      Random random(5);
      Bytes row;
      for (std::int64_t n = 0; n < rows; ++n) {
        if (n % repeat == 0) row = make(96, random.next(), [](Random& r) { return mask_byte(r, 10); });
        tensor.data.insert(tensor.data.end(), row.begin(), row.end());
      }
      all.push_back(std::move(tensor));
    }
  all.push_back({"one symbol", ByteType::i8, {300000}, Bytes(300000, 0x80)});
  all.push_back({"nearly one", ByteType::u8, {300000}, Bytes(300000, 7)});
  all.back().data[123456] = 6;
  all.push_back({"two", ByteType::u8, {3, 5, 7, 11}, make(3 * 5 * 7 * 11, 1, [](Random& r) { return r.below(2) == 0 ? 0 : 255; })});
  all.push_back({"empty mask", ByteType::u8, {4096, 512}, Bytes(4096 * 512, 0)});
  all.push_back({"nibbles", ByteType::u8, {70, 100}, make(7000, 1, [](Random& r) { return static_cast<int>(r.below(5) + 16 * r.below(3)); })});
  return all;
}

TEST(codec_returns_what_went_in) {
  for (const Tensor& tensor : tensors()) {
    const Bytes blob = encode_bytes(tensor.dtype, tensor.shape, tensor.data.data());
    if (blob.empty()) continue;  // not smaller: counted below
    const std::string what = tensor.name + " of " + std::to_string(tensor.data.size());
    CHECK(blob.size() < tensor.data.size(), what << ": " << blob.size());
    const CodedHeader header = coded_header("w", blob.data(), blob.size());
    CHECK(header.dtype == tensor.dtype && header.shape == tensor.shape, what);
    for (Isa isa : supported_isas())
      for (int threads : {1, 3}) CHECK(decode(blob, isa, threads) == tensor.data, what << " on " << isa_name(isa));
  }
}

double entropy_bytes(const Bytes& data) {
  double counts[256] = {}, bits = 0;
  for (std::uint8_t byte : data) ++counts[byte];
  for (double count : counts)
    if (count > 0) bits += count * std::log2(static_cast<double>(data.size()) / count);
  return bits / 8;
}

TEST(codec_leaves_alone_what_does_not_shrink) {
  const Bytes noise = make(10000, 1, [](Random& random) { return static_cast<int>(random.below(256)); });
  CHECK(encode_bytes(ByteType::u8, {10000}, noise.data()).empty(), "noise");
  CHECK(encode_bytes(ByteType::u8, {0}, noise.data()).empty(), "nothing");
  CHECK(encode_bytes(ByteType::u8, {}, noise.data()).empty(), "a scalar");
  CHECK(encode_bytes(ByteType::i8, {9}, Bytes(9, 1).data()).empty(), "nine bytes");
  CHECK(encode_bytes(ByteType::u8, Shape(9, 2), Bytes(512, 1).data()).empty(), "nine dimensions");
  for (const Tensor& tensor : tensors())  // but for half full masks
    CHECK(tensor.data.size() < 1000 || entropy_bytes(tensor.data) > 0.99 * static_cast<double>(tensor.data.size()) || !encode_bytes(tensor.dtype, tensor.shape, tensor.data.data()).empty(), tensor.name);
}

// One blob decodes to at most kMaxExpansion times its size, and the encoder keeps to that.
TEST(codec_empty_masks_are_read_back) {
  for (std::int64_t rows : {1000, 4096, 20000}) {
    const Bytes mask(static_cast<std::size_t>(rows * 512), 0);
    const Bytes blob = encode_bytes(ByteType::u8, {rows, 512}, mask.data());
    CHECK(!blob.empty() && static_cast<std::int64_t>(mask.size()) / kMaxExpansion < static_cast<std::int64_t>(blob.size()), rows);
    CHECK(decode(blob, active_isa()) == mask, rows);
  }
}

TEST(codec_is_near_the_entropy) {
  const Bytes codes = make(300000, 1, code);
  const auto size = [](const Bytes& data, const Shape& shape) {
    return static_cast<double>(encode_bytes(ByteType::u8, shape, data.data()).size());
  };
  CHECK(size(codes, {300000}) < 1.005 * entropy_bytes(codes), size(codes, {300000}) << " against " << entropy_bytes(codes));
  for (int percent : {5, 10, 20, 30, 40}) {
    const Bytes mask = make(768 * 96, 1, [&](Random& random) { return mask_byte(random, percent); });
    CHECK(size(mask, {768, 96}) < 1.02 * entropy_bytes(mask), percent << ": " << size(mask, {768, 96}));
  }
  for (int q : {1, 4, 8, 16, 24}) {  // whole bits a window, so up to one is lost
    const double places = 12288 * std::ceil(std::log2(static_cast<double>(windows_with(q)))) / 8;
    CHECK(size(windows(12288, q, 1), {1024, 96}) < 150 + places, q);
  }
}

// The same bytes from every compiler on every machine: what was written here is what is written there.
TEST(codec_blobs_are_the_same_everywhere) {
  std::uint64_t sum = 0;
  for (const Tensor& tensor : tensors()) {
    const Bytes blob = encode_bytes(tensor.dtype, tensor.shape, tensor.data.data());
    sum = checksum(sum, blob.data(), blob.size());
  }
  CHECK(sum == 14773202051247969222u, "got " << sum);
}

std::vector<Bytes> small_blobs() {
  std::vector<Bytes> blobs;
  const auto add = [&](ByteType dtype, const Shape& shape, const Bytes& data) {
    blobs.push_back(encode_bytes(dtype, shape, data.data()));
    CHECK(!blobs.back().empty(), "not coded");
  };
  add(ByteType::i8, {40, 50}, make(2000, 1, code));
  add(ByteType::u8, {40, 33}, make(40 * 33, 1, [](Random& random) { return mask_byte(random, 10); }));
  add(ByteType::u8, {100, 16}, windows(200, 8, 1));
  add(ByteType::u8, {200}, Bytes(200, 3));
  Bytes rows = make(64, 1, [](Random& random) { return mask_byte(random, 10); });
  rows.reserve(20 * 64);
  for (int i = 1; i < 20; ++i) rows.insert(rows.end(), rows.begin(), rows.begin() + 64);
  add(ByteType::u8, {20, 64}, rows);
  return blobs;
}

// Whatever the blob, there is an answer: the right bytes or a DataError. Returns whether it was refused.
bool refused(const Bytes& blob, const Bytes& right, const std::string& what) {
  bool first = true, result = false;
  for (Isa isa : supported_isas()) {
    bool refuses = false;
    try {
      const Bytes got = decode(blob, isa, 1);
      CHECK(got == right, what << ": a wrong answer on " << isa_name(isa));
    } catch (const DataError& error) {
      CHECK(std::string(error.what()).rfind("w: ", 0) == 0, error.what());
      refuses = true;
    }
    CHECK(first || refuses == result, what << ": " << isa_name(isa) << " disagrees");
    result = refuses;
    first = false;
  }
  return result;
}

TEST(codec_refuses_every_flipped_bit) {
  for (const Bytes& blob : small_blobs()) {
    const Bytes right = decode(blob);
    for (std::size_t byte = 0; byte < blob.size(); ++byte)
      for (int bit = 0; bit < 8; ++bit) {
        Bytes broken = blob;
        broken[byte] = static_cast<std::uint8_t>(broken[byte] ^ 1 << bit);
        // A single chunk may be announced longer than it is: the answer is right then, which `refused` checks too.
        const std::size_t chunk_length = 16 + 8 * std::size_t{blob[6]};
        CHECK(refused(broken, right, "a flip") || (byte >= chunk_length && byte < chunk_length + 4),
              "byte " << byte << " of " << blob.size() << ", bit " << bit << " made no difference");
      }
  }
}

TEST(codec_refuses_what_is_cut_or_longer) {
  for (const Bytes& blob : small_blobs()) {
    const Bytes right = decode(blob);
    for (std::size_t length = 0; length < blob.size(); ++length)
      CHECK(refused(Bytes(blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(length)), right, "a cut"), length);
    for (std::size_t more : {1, 2, 8, 1000}) {
      Bytes longer = blob;
      longer.resize(blob.size() + more);
      CHECK(refused(longer, right, "more bytes"), more);
    }
  }
}

TEST(codec_survives_anything) {
  const std::vector<Bytes> blobs = small_blobs();
  Random random(1);
  for (int round = 0; round < 4000; ++round) {
    const Bytes& blob = blobs[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(blobs.size())))];
    Bytes broken = blob;
    for (std::int64_t changes = 1 + random.below(6); changes > 0; --changes) {
      // Mostly where the structure is.
      const auto limit = static_cast<std::int64_t>(random.below(3) == 0 ? broken.size() : std::min<std::size_t>(broken.size(), 80));
      broken[static_cast<std::size_t>(random.below(limit))] = static_cast<std::uint8_t>(random.below(4) == 0 ? 255 * random.below(2) : random.next());
    }
    if (random.below(8) == 0) broken.resize(static_cast<std::size_t>(random.below(static_cast<std::int64_t>(broken.size()) + 1)));
    (void)refused(broken, decode(blob), "round " + std::to_string(round));
  }
}

void expect_refusal(const Bytes& blob, const std::string& message) {
  try {
    (void)decode(blob);
  } catch (const DataError& error) {
    CHECK(std::string(error.what()).find(message) != std::string::npos, "expected '" << message << "', got '" << error.what() << "'");
    return;
  }
  CHECK(false, "nothing refused: " << message);
}

Bytes with(Bytes blob, std::size_t at, std::initializer_list<int> bytes) {
  for (int byte : bytes) blob[at++] = static_cast<std::uint8_t>(byte);
  return blob;
}

TEST(codec_says_what_is_wrong) {
  const Bytes blob = small_blobs()[0];  // i8 [40, 50]: header 32 bytes, chunk length, frequencies
  expect_refusal(Bytes(3), "truncated: expected a header");
  expect_refusal(with(blob, 0, {'z'}), "expected it to begin with \"aes\"");
  expect_refusal(with(blob, 3, {2}), "expected version 1 of a coded tensor, got 2");
  expect_refusal(with(blob, 4, {2}), "dtype: expected 0 or 1, got 2");
  expect_refusal(with(blob, 5, {0}), "equal rows: expected 1");
  expect_refusal(with(blob, 5, {5}), "equal rows: expected 1");
  expect_refusal(with(blob, 6, {9}), "expected at most 8 dimensions, got 9");
  expect_refusal(with(blob, 7, {2}), "method: expected 0 or 1, got 2");
  expect_refusal(with(blob, 7, {1}), "method 1: expected U8 rows of whole windows");
  expect_refusal(with(blob, 16, {255, 255, 255, 255, 255, 255, 255, 255}), "cannot stand for a tensor of more than");
  expect_refusal(with(blob, 16, {0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}), "cannot stand for a tensor of more than");
  expect_refusal(with(blob, 17, {0x40}), "truncated: expected 51 chunks");  // 16424 rows of 50
  expect_refusal(with(blob, 32, {0, 0, 0, 0}), "chunk length: expected a multiple of 8 up to 65536, got 0");
  expect_refusal(with(blob, 32, {4}), "chunk length: expected a multiple of 8 up to 65536");
  expect_refusal(with(blob, 36, {3}), "frequencies: expected a kind in [0, 2], got 3");
  expect_refusal(with(blob, 36, {0x80}), "frequencies: expected a kind and a parameter");
  expect_refusal(with(blob, 8, {blob[8] ^ 1}), "the checksum of the decoded bytes is not the one stored");
  expect_refusal(with(blob, blob.size() - 1, {blob[blob.size() - 1] ^ 1}), "damaged:");
}

TEST(codec_windows_that_cannot_be) {
  Bytes blob = small_blobs()[2];  // 200 windows with 8 bits each
  const std::size_t places = 200 * 33 / 8;
  expect_refusal(with(blob, blob.size() - places, {255, 255, 255, 255, 255}), "a window's place is beyond the last of its kind");
  blob.resize(32);
  Bytes bits(200, 8);
  bits[100] = 65;
  encode_rans(bits.data(), 200, blob);
  blob.resize(blob.size() + places);
  expect_refusal(blob, "expected at most 64 bits, got 65");
  bits[100] = 8;
  blob.resize(32);
  encode_rans(bits.data(), 200, blob);
  blob.resize(blob.size() + places + 1);
  expect_refusal(blob, "expected 825 bytes of places, got 826");
}

TEST(codec_frequencies_that_do_not_sum_up) {
  Counts counts{};
  for (std::size_t s = 0; s < 40; ++s) counts[s] = s * s;
  const ChosenFrequencies chosen = choose_frequencies(counts);
  Frequencies read;
  CHECK(read_frequencies("w", chosen.text.data(), chosen.text.size(), read) == chosen.text.size(), "length");
  CHECK(read == chosen.frequencies, "what was written");
  int refusals = 0;
  for (std::size_t bit = 0; bit < 8 * chosen.text.size(); ++bit) {
    Bytes broken = chosen.text;
    broken[bit / 8] = static_cast<std::uint8_t>(broken[bit / 8] ^ 1 << bit % 8);
    const auto copy = exact(broken);
    try {
      (void)read_frequencies("w", copy.get(), broken.size(), read);
      unsigned sum = 0;
      for (std::uint16_t f : read) sum += f;
      CHECK(sum == 4096, "sum " << sum);
    } catch (const DataError&) {
      ++refusals;
    }
  }
  CHECK(refusals > 0, "none refused");
}

TEST(codec_windows_count_all_words) {
  CHECK(windows_with(8) == 4426165368 && windows_with(32) == 1832624140942590534 && windows_with(64) == 1, "C(64, q)");
  CHECK(window_width(0) == 0 && window_width(1) == 6 && window_width(8) == 33 && window_width(32) == 61, "widths");
  Random random(1);
  for (int bits = 0; bits <= 64; ++bits) {
    const std::uint64_t all = windows_with(bits);
    for (int round = 0; round < 400; ++round) {
      const std::uint64_t place = round == 0 ? 0 : round == 1 ? all - 1 : random.next() % all;
      const std::uint64_t word = window_at(bits, place);
      CHECK(__builtin_popcountll(word) == bits, bits << " at " << place);
      CHECK(window_place(word) == place, bits << " at " << place << ": " << window_place(word));
    }
  }
}

TEST(codec_checksum_sees_every_change) {
  const Bytes data = make(200, 1, [](Random& random) { return static_cast<int>(random.below(256)); });
  for (std::size_t length = 0; length <= data.size(); ++length) {
    const std::uint64_t sum = checksum(1, data.data(), length);
    CHECK(sum != checksum(2, data.data(), length), "seed");
    CHECK(length == 0 || sum != checksum(1, data.data(), length - 1), "length " << length);
    for (std::size_t at = 0; at < length; at += 7) {
      Bytes changed = data;
      changed[at] = static_cast<std::uint8_t>(changed[at] ^ 16);
      CHECK(sum != checksum(1, changed.data(), length), "byte " << at << " of " << length);
    }
  }
}

}  // namespace
}  // namespace aerogel
