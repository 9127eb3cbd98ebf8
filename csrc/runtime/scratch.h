// Working memory of each thread of a team.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/aligned.h"

namespace aerogel {

class ScratchPool {
 public:
  explicit ScratchPool(int threads) : buffers_(threads) {}

  // Makes room for `bytes` in every thread's scratch. Only while no job runs.
  void reserve(std::size_t bytes) {
    for (AlignedBuffer<std::uint8_t>& buffer : buffers_)
      if (buffer.size() < bytes) buffer = AlignedBuffer<std::uint8_t>(bytes);
  }
  void clear() {
    for (AlignedBuffer<std::uint8_t>& buffer : buffers_) AlignedBuffer<std::uint8_t>().swap(buffer);
  }
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const AlignedBuffer<std::uint8_t>& buffer : buffers_) sum += buffer.bytes();
    return sum;
  }
  std::uint8_t* of(int thread) { return buffers_[thread].data(); }

 private:
  std::vector<AlignedBuffer<std::uint8_t>> buffers_;
};

}  // namespace aerogel
