// libFuzzer: whatever a blob of csrc/codec holds, it is refused or decoded, and every kernel decodes it alike.
//
//   aerogel_fuzz_decoder CORPUS [libFuzzer's options]
//
// The checksum would keep nearly every changed blob from being accepted, so it is set right here where it is all that is
// wrong. Whole blobs, as the encoder writes them, are put into CORPUS first; a fuzzer does not find those by itself.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "codec/checksum.h"
#include "codec/codec.h"
#include "isa/isa.h"

namespace {

using namespace aerogel;
using Bytes = std::vector<std::uint8_t>;

// More makes a run slow, and shows nothing that less does not: 16 chunks of the shortest length that an encoder writes.
constexpr std::int64_t kLargest = std::int64_t{1} << 18;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// Blocks of exactly the sizes promised, so that the address sanitizer sees one byte too many. Returns whether it was accepted.
bool decode(const Bytes& blob, const CodedHeader& header, Isa isa, int threads, Bytes& out) {
  const auto copy = std::make_unique<std::uint8_t[]>(blob.size());
  std::copy(blob.begin(), blob.end(), copy.get());
  const auto room = std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(header.size));
  bool good = true;
  try {
    decode_bytes("w", header, copy.get(), blob.size(), room.get(), threads, isa);
  } catch (const DataError&) {
    good = false;
  }
  out.assign(room.get(), room.get() + header.size);
  return good;
}

void write_seeds(const std::string& folder) {
  std::uint32_t state = 1;
  const auto random = [&] { return (state = state * 1664525 + 1013904223) >> 16; };
  int number = 0;
  const auto seed = [&](ByteType dtype, const std::vector<std::int64_t>& shape, const Bytes& data) {
    const Bytes blob = encode_bytes(dtype, shape, data.data());
    if (blob.empty()) fail("a seed does not get smaller");
    std::ofstream file(folder + "/seed-" + std::to_string(number++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(blob.data()), static_cast<std::streamsize>(blob.size()));
  };
  for (const std::int64_t n : {40, 600, 2400}) {
    Bytes codes, masks, few;
    for (std::int64_t i = 0; i < 8 * n; ++i) {
      codes.push_back(static_cast<std::uint8_t>(random() % 16 + random() % 16 - 15));
      masks.push_back(static_cast<std::uint8_t>(1u << random() % 8));
      few.push_back(random() % 9 == 0 ? 3 : 0);
    }
    seed(ByteType::i8, {n, 8}, codes);
    seed(ByteType::u8, {n * 8}, masks);  // one bit in each byte
    seed(ByteType::u8, {n, 8}, few);
    Bytes windows;  // two bits in each 64 columns: the method for q:64
    for (std::int64_t i = 0; i < n; ++i) {
      std::uint64_t word = 0;
      while ((word & (word - 1)) == 0) word |= std::uint64_t{1} << random() % 64;
      for (int byte = 0; byte < 8; ++byte) windows.push_back(static_cast<std::uint8_t>(word >> 8 * byte));
    }
    seed(ByteType::u8, {n / 4, 32}, windows);
    Bytes twice;  // equal rows two by two
    for (std::int64_t i = 0; i < n; ++i) twice.insert(twice.end(), codes.begin() + i / 2 * 8, codes.begin() + i / 2 * 8 + 8);
    seed(ByteType::i8, {n, 8}, twice);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i)
    if (std::string one = (*argv)[i]; one[0] != '-') {
      // With a file, libFuzzer only repeats what is in it.
      if (std::ofstream(one + "/seed-0").good()) write_seeds(one);
      break;
    }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes blob(data, data + size);
  CodedHeader header;
  try {
    header = coded_header("w", data, size);
  } catch (const DataError&) {
    return 0;
  }
  if (header.size > kLargest) return 0;

  Bytes expected;
  if (!decode(blob, header, Isa::scalar, 1, expected)) {
    std::uint64_t sum = checksum(checksum(0, blob.data(), 8), blob.data() + 16, header.body - 16);
    sum = checksum(sum, expected.data(), expected.size());
    for (int i = 0; i < 8; ++i) blob[static_cast<std::size_t>(8 + i)] = static_cast<std::uint8_t>(sum >> (8 * i));
    header = coded_header("w", blob.data(), blob.size());
  }
  const bool good = decode(blob, header, Isa::scalar, 1, expected);
  for (const Isa isa : supported_isas()) {
    Bytes found;
    // Threads are started for each call, which takes longer than the rest: two of them for some inputs only.
    if (decode(blob, header, isa, size % 16 == 0 ? 2 : 1, found) != good) fail("one kernel accepts what another refuses");
    if (good && found != expected) fail("two kernels decode one blob to different bytes");
  }
  if (!good) return 0;
  const Bytes again = encode_bytes(header.dtype, header.shape, expected.data());
  if (again.empty()) return 0;
  Bytes back;
  if (!decode(again, coded_header("w", again.data(), again.size()), Isa::scalar, 1, back) || back != expected)
    fail("what was decoded does not come back from the encoder");
  return 0;
}
