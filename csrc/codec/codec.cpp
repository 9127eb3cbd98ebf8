#include "codec/codec.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/stop.h"
#include "base/team.h"
#include "codec/bits.h"
#include "codec/checksum.h"
#include "codec/rans.h"
#include "codec/windows.h"

namespace aerogel {
namespace {

constexpr std::uint8_t kMagic[4] = {'a', 'e', 's', 1};
constexpr std::size_t kMaxDimensions = 8;
constexpr int kMaxRepeat = 4;
enum Method : std::uint8_t { kBytes = 0, kWindows = 1 };
constexpr std::int64_t kWindowBytes = 8;

int popcount(std::uint64_t word) {
  int bits = 0;
  for (; word != 0; word &= word - 1) ++bits;
  return bits;
}

// How many equal rows in a row every row is one of: 4, 3, 2, else 1.
int find_repeat(const std::vector<std::int64_t>& shape, const std::uint8_t* data) {
  if (shape.size() != 2) return 1;
  const auto row = static_cast<std::size_t>(shape[1]);
  for (int repeat = kMaxRepeat; repeat > 1; --repeat) {
    bool same = shape[0] >= repeat;
    for (std::int64_t n = 1; same && n < shape[0]; ++n)
      if (n % repeat != 0) same = std::memcmp(data + static_cast<std::size_t>(n - 1) * row, data + static_cast<std::size_t>(n) * row, row) == 0;
    if (same) return repeat;
  }
  return 1;
}

std::vector<std::uint8_t> bits_in_windows(const std::uint8_t* data, std::int64_t n) {
  std::vector<std::uint8_t> bits(static_cast<std::size_t>(n / kWindowBytes));
  for (std::size_t i = 0; i < bits.size(); ++i)
    bits[i] = static_cast<std::uint8_t>(popcount(load_le<std::uint64_t>(data + kWindowBytes * static_cast<std::int64_t>(i))));
  return bits;
}

void encode_windows(const std::uint8_t* data, const std::vector<std::uint8_t>& bits, std::vector<std::uint8_t>& out) {
  encode_rans(bits.data(), static_cast<std::int64_t>(bits.size()), out);
  BitWriter writer(out);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (i % 4096 == 0) stop_if_requested();
    writer.put(window_place(load_le<std::uint64_t>(data + kWindowBytes * static_cast<std::int64_t>(i))), window_width(bits[i]));
  }
}

// Whether windows take clearly less than bytes. They decode more slowly, so a tie goes to bytes.
bool windows_pay(const std::uint8_t* data, std::int64_t n, const std::vector<std::uint8_t>& bits) {
  std::int64_t places = 0;
  for (std::uint8_t b : bits) places += window_width(b);
  const std::int64_t windows = rans_bytes(bits.data(), static_cast<std::int64_t>(bits.size())) + places / 8;
  return windows < rans_bytes(data, n) * 199 / 200;
}

std::uint64_t header_seed(const std::uint8_t* blob, std::size_t dimensions) {
  return checksum(checksum(0, blob, 8), blob + 16, 8 * dimensions);
}

std::vector<std::uint8_t> encode(ByteType dtype, const std::vector<std::int64_t>& shape, const std::uint8_t* data, std::int64_t size,
                                 bool may_repeat, bool may_window) {
  const int repeat = may_repeat ? find_repeat(shape, data) : 1;
  std::vector<std::uint8_t> kept;
  const std::uint8_t* source = data;
  std::int64_t n = size;
  if (repeat > 1) {
    for (std::int64_t row = 0; row < shape[0]; row += repeat) kept.insert(kept.end(), data + row * shape[1], data + (row + 1) * shape[1]);
    source = kept.data();
    n = static_cast<std::int64_t>(kept.size());
  }
  std::vector<std::uint8_t> bits;
  if (may_window && dtype == ByteType::u8 && shape.back() % kWindowBytes == 0) bits = bits_in_windows(source, n);
  const Method method = !bits.empty() && windows_pay(source, n, bits) ? kWindows : kBytes;

  std::vector<std::uint8_t> blob(kMagic, kMagic + 4);
  blob.push_back(static_cast<std::uint8_t>(dtype));
  blob.push_back(static_cast<std::uint8_t>(repeat));
  blob.push_back(static_cast<std::uint8_t>(shape.size()));
  blob.push_back(method);
  blob.resize(16);
  for (std::int64_t length : shape) append_le(blob, static_cast<std::uint64_t>(length));
  const std::uint64_t sum = checksum(header_seed(blob.data(), shape.size()), data, static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < 8; ++i) blob[8 + i] = static_cast<std::uint8_t>(sum >> (8 * i));
  if (method == kWindows)
    encode_windows(source, bits, blob);
  else
    encode_rans(source, n, blob);
  return blob;
}

[[noreturn]] void refuse(const std::string& name, const std::string& what) { throw DataError(name + ": " + what); }

// Runs the parts of a job, on a team only where there is something to share: starting one takes 100 microseconds.
class Workers {
 public:
  explicit Workers(int threads) : threads_(threads) {}
  template <class Body>
  void run(std::int64_t parts, const Body& body) {
    if (threads_ == 1 || parts < 2) {
      for (std::int64_t part = 0; part < parts; ++part) body(part, 0);
      return;
    }
    if (team_ == nullptr) team_ = std::make_unique<Team>(threads_);
    const auto turn = team_->lock();
    team_->run(parts, body);
  }

 private:
  int threads_;
  std::unique_ptr<Team> team_;
};

// Runs decode_rans over all groups; throws where one does not come out.
void decode_groups(const std::string& name, const RansBody& body, Workers& workers, RansSteps steps, std::uint8_t* out) {
  std::atomic<bool> good{true};
  workers.run(rans_groups(body), [&](std::int64_t group, int) noexcept {
    if (!decode_rans(body, steps, group, out)) good.store(false, std::memory_order_relaxed);
  });
  if (!good.load()) refuse(name, "damaged: a chunk does not end as it must");
}

constexpr std::int64_t kBlock = 4096;  // windows that a thread takes at a time

void decode_windows(const std::string& name, const std::uint8_t* data, std::size_t bytes, Workers& workers, RansSteps steps,
                    std::uint8_t* out, std::int64_t n) {
  const std::int64_t windows = n / kWindowBytes;
  const RansBody body = parse_rans(name, data, bytes, windows);
  std::vector<std::uint8_t> bits(static_cast<std::size_t>(windows));
  decode_groups(name, body, workers, steps, bits.data());

  std::vector<std::uint64_t> begins;  // the bit at which each block begins
  std::uint64_t total = 0;
  for (std::int64_t first = 0; first < windows; first += kBlock) {
    const std::uint8_t* const block = bits.data() + first;
    const std::int64_t count = std::min(kBlock, windows - first);
    if (const std::uint8_t most = *std::max_element(block, block + count); most > 64)
      refuse(name, "windows " + std::to_string(first) + " and on: expected at most 64 bits, got " + std::to_string(most));
    begins.push_back(total);
    total += places_width(block, count);
  }
  const std::uint8_t* const places = body.end;
  const auto place_bytes = static_cast<std::size_t>(data + bytes - places);
  if (place_bytes != (total + 7) / 8)
    refuse(name, "expected " + std::to_string((total + 7) / 8) + " bytes of places, got " + std::to_string(place_bytes));
  if (total % 8 != 0 && places[place_bytes - 1] >> total % 8 != 0) refuse(name, "expected zero bits after the places");

  std::atomic<bool> good{true};
  workers.run(static_cast<std::int64_t>(begins.size()), [&](std::int64_t block, int) noexcept {
    const std::int64_t first = block * kBlock;
    if (!read_windows(bits.data() + first, std::min(kBlock, windows - first), places, place_bytes,
                      begins[static_cast<std::size_t>(block)], out + kWindowBytes * first))
      good.store(false, std::memory_order_relaxed);
  });
  if (!good.load()) refuse(name, "damaged: a window's place is beyond the last of its kind");
}

}  // namespace

std::vector<std::uint8_t> encode_bytes(ByteType dtype, const std::vector<std::int64_t>& shape, const std::uint8_t* data) {
  std::int64_t size = 1;
  for (std::int64_t length : shape) size *= length;
  if (size == 0 || shape.empty() || shape.size() > kMaxDimensions) return {};
  // Nearly empty tensors shrink more than a reader believes: then without what does that.
  for (bool tricks : {true, false}) {
    std::vector<std::uint8_t> blob = encode(dtype, shape, data, size, tricks, tricks);
    if (static_cast<std::int64_t>(blob.size()) >= size) return {};
    if (size / kMaxExpansion < static_cast<std::int64_t>(blob.size())) return blob;
  }
  return {};
}

CodedHeader coded_header(const std::string& name, const std::uint8_t* blob, std::size_t bytes) {
  if (bytes < 16) refuse(name, "truncated: expected a header of at least 16 bytes, got " + std::to_string(bytes));
  if (std::memcmp(blob, kMagic, 3) != 0) refuse(name, "not a coded tensor: expected it to begin with \"aes\"");
  if (blob[3] != kMagic[3])
    refuse(name, "expected version 1 of a coded tensor, got " + std::to_string(blob[3]));
  CodedHeader header{};
  const std::size_t dimensions = blob[6];
  if (blob[4] > 1) refuse(name, "dtype: expected 0 or 1, got " + std::to_string(blob[4]));
  if (dimensions > kMaxDimensions) refuse(name, "expected at most 8 dimensions, got " + std::to_string(dimensions));
  if (bytes < 16 + 8 * dimensions)
    refuse(name, "truncated: expected " + std::to_string(dimensions) + " dimensions, the blob has " + std::to_string(bytes) + " bytes");
  header.dtype = static_cast<ByteType>(blob[4]);
  header.repeat = blob[5];
  header.method = blob[7];
  header.body = 16 + 8 * dimensions;
  header.checksum = load_le<std::uint64_t>(blob + 8);
  // A product that may not overflow: the limit is below 2^63 / kMaxExpansion.
  const std::uint64_t limit = static_cast<std::uint64_t>(kMaxExpansion) * bytes;
  std::uint64_t size = 1;
  bool empty = false, plausible = true;
  for (std::size_t i = 0; i < dimensions; ++i) {
    const auto length = load_le<std::uint64_t>(blob + 16 + 8 * i);
    plausible = plausible && length <= limit;
    if (!plausible) break;
    header.shape.push_back(static_cast<std::int64_t>(length));
    empty = empty || length == 0;
    if (length != 0) {
      plausible = size <= limit / length;
      size *= plausible ? length : 1;
    }
  }
  if (!plausible)
    refuse(name, "shape: " + std::to_string(bytes) + " bytes cannot stand for a tensor of more than " + std::to_string(limit));
  header.size = empty ? 0 : static_cast<std::int64_t>(size);
  if (header.repeat < 1 || header.repeat > kMaxRepeat || (header.repeat > 1 && dimensions != 2))
    refuse(name, "equal rows: expected 1, or up to 4 of a matrix, got " + std::to_string(header.repeat));
  header.row = header.repeat > 1 ? header.shape[1] : header.size;
  header.coded_rows = header.repeat > 1 ? (header.shape[0] + header.repeat - 1) / header.repeat : 1;
  if (header.method > kWindows) refuse(name, "method: expected 0 or 1, got " + std::to_string(header.method));
  if (header.method == kWindows && (dimensions == 0 || header.shape.back() % kWindowBytes != 0 || header.dtype != ByteType::u8))
    refuse(name, "method 1: expected U8 rows of whole windows of 8 bytes");
  return header;
}

void decode_bytes(const std::string& name, const CodedHeader& header, const std::uint8_t* blob, std::size_t bytes,
                  std::uint8_t* out, int threads, Isa isa) {
  Workers workers(threads);
  const RansSteps steps = rans_steps(isa);
  const std::int64_t n = header.coded_rows * header.row;
  // Rows that stand for several are decoded to the end of `out`, and spread from its beginning: a row is read before it is
  // written over, since row r lies at or behind the last of its copies.
  std::uint8_t* const coded = out + (header.size - n);
  const std::uint8_t* const body = blob + header.body;
  const std::size_t left = bytes - header.body;
  if (header.method == kWindows) {
    decode_windows(name, body, left, workers, steps, coded, n);
  } else {
    const RansBody parsed = parse_rans(name, body, left, n);
    if (parsed.end != blob + bytes)
      refuse(name, "expected the blob to end with its last word, got " + std::to_string(blob + bytes - parsed.end) + " bytes more");
    decode_groups(name, parsed, workers, steps, coded);
  }
  if (header.repeat > 1 && header.row > 0)
    for (std::int64_t row = 0; row < header.shape[0]; ++row)
      std::memmove(out + row * header.row, coded + row / header.repeat * header.row, static_cast<std::size_t>(header.row));
  const std::uint64_t sum = checksum(header_seed(blob, header.shape.size()), out, static_cast<std::size_t>(header.size));
  if (sum != header.checksum) refuse(name, "damaged: the checksum of the decoded bytes is not the one stored");
}

}  // namespace aerogel
