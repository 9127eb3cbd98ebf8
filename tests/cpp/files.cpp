// Checksums are the same on every instruction set and those of the standard; reading stops where the file does; names are
// exchanged in one step.
#include "files/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

#include "check.h"
#include "files/crc32c.h"

namespace aerogel {
namespace {

using namespace testing;
using Bytes = std::vector<std::uint8_t>;

Bytes random_bytes(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  Bytes bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.next() >> 32);
  return bytes;
}

// Bit by bit, as the standard defines it.
std::uint32_t reference(const Bytes& bytes) {
  std::uint32_t state = ~0u;
  for (std::uint8_t byte : bytes) {
    state ^= byte;
    for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ ((state & 1) != 0 ? 0x82f63b78u : 0);
  }
  return ~state;
}

// A folder that disappears with what is in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/aerogel-files-XXXXXX";
    CHECK(mkdtemp(name) != nullptr, "no folder");
    path_ = name;
  }
  ~Folder() {
    for (const std::string& name : names_) std::remove(name.c_str());
    rmdir(path_.c_str());
  }
  std::string file(const std::string& name, const Bytes& content) {
    names_.push_back(path_ + "/" + name);
    std::FILE* out = std::fopen(names_.back().c_str(), "wb");
    CHECK(out != nullptr, names_.back());
    CHECK(std::fwrite(content.data(), 1, content.size(), out) == content.size(), names_.back());
    std::fclose(out);
    return names_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> names_;
};

Bytes content_of(const std::string& name) {
  const int file = open(name.c_str(), O_RDONLY);
  CHECK(file >= 0, name);
  Bytes bytes(64);
  bytes.resize(read_at(file, 0, bytes.data(), bytes.size(), nullptr));
  close(file);
  return bytes;
}

}  // namespace

TEST(crc32c_is_that_of_the_standard) {
  const char* digits = "123456789";
  const Bytes zeros(32, 0), ones(32, 0xff);
  for (Isa isa : supported_isas()) {
    CHECK(crc32c(0, reinterpret_cast<const std::uint8_t*>(digits), 9, isa) == 0xe3069283u, isa_name(isa));
    CHECK(crc32c(0, zeros.data(), 32, isa) == 0x8a9136aau, isa_name(isa));  // RFC 3720, B.4
    CHECK(crc32c(0, ones.data(), 32, isa) == 0x62a8ab43u, isa_name(isa));
    CHECK(crc32c(7, nullptr, 0, isa) == 7, isa_name(isa));
  }
}

TEST(crc32c_is_the_same_on_every_instruction_set) {
  for (std::size_t count : {0u, 1u, 7u, 8u, 9u, 63u, 1023u, 1024u, 3071u, 3072u, 3073u, 6144u, 10000u})
    for (std::size_t shift = 0; shift < 4; ++shift) {
      const Bytes bytes = random_bytes(count, count + 1);
      const auto memory = std::make_unique<std::uint8_t[]>(count + shift);  // of that size, for the address sanitizer
      std::copy(bytes.begin(), bytes.end(), memory.get() + shift);
      for (Isa isa : supported_isas()) {
        const std::uint32_t whole = crc32c(0, memory.get() + shift, count, isa);
        CHECK(whole == reference(bytes), isa_name(isa) << ", " << count << " bytes");
        const std::size_t cut = count / 3;
        CHECK(crc32c(crc32c(0, memory.get() + shift, cut, isa), memory.get() + shift + cut, count - cut, isa) == whole,
              isa_name(isa) << ", " << count << " bytes in two parts");
      }
    }
}

TEST(reading_stops_where_the_file_ends) {
  Folder folder;
  const Bytes bytes = random_bytes(700000, 3);
  const int file = open(folder.file("a", bytes).c_str(), O_RDONLY);
  Bytes out(bytes.size() + 10, 1);
  std::uint32_t crc = 0;
  CHECK(read_at(file, 0, out.data(), out.size(), &crc) == bytes.size(), "whole");
  CHECK(std::memcmp(out.data(), bytes.data(), bytes.size()) == 0, "other bytes");
  CHECK(out[bytes.size()] == 1, "wrote beyond what was read");
  CHECK(crc == reference(bytes), "checksum");
  CHECK(read_at(file, 699990, out.data(), 100, nullptr) == 10, "at the end");
  CHECK(read_at(file, 1u << 30, out.data(), 100, nullptr) == 0, "behind the end");
  close(file);
  bool thrown = false;
  try {
    read_at(file, 0, out.data(), 1, nullptr);
  } catch (const std::system_error&) {
    thrown = true;
  }
  CHECK(thrown, "a closed file was read");
}

TEST(names_are_exchanged) {
  Folder folder;
  const Bytes one = {1}, two = {2, 2};
  const std::string a = folder.file("a", one), b = folder.file("b", two);
  if (!exchange_names(a.c_str(), b.c_str())) skip("this file system cannot exchange names");
  CHECK(content_of(a) == two && content_of(b) == one, "not exchanged");
  bool thrown = false;
  try {
    exchange_names(a.c_str(), (b + "x").c_str());
  } catch (const std::system_error&) {
    thrown = true;
  }
  CHECK(thrown, "a name that does not exist");
}

}  // namespace aerogel
