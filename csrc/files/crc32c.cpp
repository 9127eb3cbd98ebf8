#include "files/crc32c.h"

#include "files/crc32c_body.h"

namespace aerogel {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78u;  // least significant bit first

// Eight bytes at a time by eight tables (Kounavis and Berry 2008): slice[i][b] is the state after the byte b and i zeros.
struct Tables {
  std::uint32_t slice[8][256];
  CrcZeros zeros;

  Tables() {
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t state = b;
      for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ ((state & 1) != 0 ? kPolynomial : 0);
      slice[0][b] = state;
    }
    for (int i = 1; i < 8; ++i)
      for (int b = 0; b < 256; ++b) slice[i][b] = after_zero(slice[i - 1][b]);
    std::uint32_t bits[32];
    for (int i = 0; i < 32; ++i) {
      bits[i] = 1u << i;
      for (std::size_t n = 0; n < kCrcPart; ++n) bits[i] = after_zero(bits[i]);
    }
    for (int i = 0; i < 4; ++i)
      for (std::uint32_t b = 0; b < 256; ++b) {
        zeros.after[i][b] = 0;
        for (int bit = 0; bit < 8; ++bit)
          if ((b >> bit & 1) != 0) zeros.after[i][b] ^= bits[8 * i + bit];
      }
  }
  std::uint32_t after_zero(std::uint32_t state) const { return state >> 8 ^ slice[0][state & 0xff]; }
};

const Tables& tables() {
  static const Tables made;
  return made;
}

std::uint32_t crc32c_scalar(std::uint32_t state, const std::uint8_t* data, std::size_t bytes) {
  const auto& slice = tables().slice;
  for (; bytes >= 8; data += 8, bytes -= 8) {
    const std::uint32_t low = state ^ (data[0] | std::uint32_t{data[1]} << 8 | std::uint32_t{data[2]} << 16 | std::uint32_t{data[3]} << 24);
    state = slice[7][low & 0xff] ^ slice[6][low >> 8 & 0xff] ^ slice[5][low >> 16 & 0xff] ^ slice[4][low >> 24] ^
            slice[3][data[4]] ^ slice[2][data[5]] ^ slice[1][data[6]] ^ slice[0][data[7]];
  }
  for (; bytes > 0; ++data, --bytes) state = state >> 8 ^ slice[0][(state ^ *data) & 0xff];
  return state;
}

}  // namespace

std::uint32_t crc32c(std::uint32_t crc, const std::uint8_t* data, std::size_t bytes, Isa isa) {
  for (const Isa step : isa_chain(isa)) {
#if defined(__x86_64__)
    if (step == Isa::avx2) return ~crc32c_avx2(~crc, data, bytes, tables().zeros);
#elif defined(__aarch64__) && AEROGEL_NEONDOT
    if (step == Isa::neondot) return ~crc32c_neondot(~crc, data, bytes, tables().zeros);
#endif
    if (step == Isa::scalar) break;
  }
  return ~crc32c_scalar(~crc, data, bytes);
}

}  // namespace aerogel
