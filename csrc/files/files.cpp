#include "files/files.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <unistd.h>
#if defined(__linux__)
#include <fcntl.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <cstdio>
#endif

#include "files/crc32c.h"

namespace aerogel {
namespace {

constexpr std::size_t kChunk = std::size_t{256} << 10;  // stays in a core's caches until its checksum is taken

[[noreturn]] void fail(int error) { throw std::system_error(error, std::generic_category()); }

}  // namespace

std::size_t read_at(int file, std::uint64_t offset, std::uint8_t* out, std::size_t bytes, std::uint32_t* crc) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t count = pread(file, out + done, std::min(kChunk, bytes - done), static_cast<off_t>(offset + done));
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      fail(errno);
    }
    if (crc != nullptr) *crc = crc32c(*crc, out + done, static_cast<std::size_t>(count));
    done += static_cast<std::size_t>(count);
  }
  return done;
}

bool exchange_names(const char* a, const char* b) {
#if defined(__linux__) && defined(SYS_renameat2)
  constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE; glibc has its name since 2.28 only
  const long failed = syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, kExchange);
#elif defined(__APPLE__) && defined(RENAME_SWAP)
  const long failed = renamex_np(a, b, RENAME_SWAP);
#else
  (void)a, (void)b;
  const long failed = -1;
  errno = ENOSYS;
#endif
  if (failed == 0) return true;
  // Old kernels, file systems that cannot, and sandboxes that answer EPERM to what they do not know.
  if (errno == ENOSYS || errno == EINVAL || errno == ENOTSUP || errno == EOPNOTSUPP || errno == EPERM) return false;
  fail(errno);
}

}  // namespace aerogel
