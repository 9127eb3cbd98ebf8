// Memory that ends where a page ends that nobody may touch: one byte read or written behind it stops the program, also under an
// emulator, where no sanitizer runs.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <new>

namespace aerogel::testing {

template <class T>
class Guarded {
 public:
  // Zeros. Aligned to 64 bytes where count * sizeof(T) is a multiple of 64.
  explicit Guarded(std::size_t count) : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t whole = (count * sizeof(T) + page - 1) / page * page;
    bytes_ = whole + page;
    void* const at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(at);
    if (mprotect(memory_ + whole, page, PROT_NONE) != 0) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(memory_ + whole - count * sizeof(T));
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(memory_, bytes_); }

  T* data() { return data_; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_[i]; }

 private:
  char* memory_;
  std::size_t bytes_, count_;
  T* data_;
};

}  // namespace aerogel::testing
