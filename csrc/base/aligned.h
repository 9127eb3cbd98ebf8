// Memory that vector loads may touch without crossing a cache line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

namespace aerogel {

constexpr std::size_t kCacheLine = 64;

template <class Int>
constexpr Int round_up(Int value, Int step) {
  return (value + step - 1) / step * step;
}

// A fixed-size array of a trivial type, aligned to a cache line; its allocation is a whole number of
// cache lines, so a 64-byte load of the last element stays inside it. Movable, not copyable.
template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;

  // Contents are unspecified.
  explicit AlignedBuffer(std::size_t count) : count_(count) {
    if (count == 0) return;
    if (count > (std::numeric_limits<std::size_t>::max() - kCacheLine) / sizeof(T)) throw std::bad_alloc();
    data_ = static_cast<T*>(std::aligned_alloc(kCacheLine, round_up(count * sizeof(T), kCacheLine)));
    if (data_ == nullptr) throw std::bad_alloc();
  }

  static AlignedBuffer zeros(std::size_t count) {
    AlignedBuffer buffer(count);
    if (count != 0) std::memset(buffer.data_, 0, round_up(count * sizeof(T), kCacheLine));
    return buffer;
  }

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~AlignedBuffer() { std::free(data_); }
  void swap(AlignedBuffer& other) noexcept { *this = std::move(other); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return count_; }
  std::size_t bytes() const { return count_ * sizeof(T); }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t count_ = 0;
};

// Returns freed memory to the system, where the C library has a way to say so.
void release_memory();

}  // namespace aerogel
