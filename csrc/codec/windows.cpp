#include "codec/windows.h"

#include <algorithm>
#include <array>
#include <memory>

namespace aerogel {
namespace {

int popcount(std::uint32_t v) {
  int bits = 0;
  for (; v != 0; v &= v - 1) ++bits;
  return bits;
}

// Everything that is looked up; 300 KB, made at the first use.
struct Tables {
  std::uint64_t choose[65][65];  // C(n, k), 0 for k > n
  std::uint8_t width[65];
  // [bits][a]: places before the first word with a bits in its lower half. Past the last: as many as there are.
  std::uint64_t before64[65][64];
  std::uint32_t before32[33][32];
  std::array<std::uint16_t, 65536> word16, place16;  // by popcount, then value; and back
  std::uint32_t first16[18];                         // the first of each popcount in word16

  Tables() {
    for (int n = 0; n <= 64; ++n)
      for (int k = 0; k <= 64; ++k)
        choose[n][k] = k == 0 ? 1 : n == 0 ? 0 : choose[n - 1][k - 1] + choose[n - 1][k];
    for (int bits = 0; bits <= 64; ++bits) {
      width[bits] = 0;
      while ((choose[64][bits] - 1) >> width[bits] != 0) ++width[bits];
      std::uint64_t sum = 0;
      for (int a = 0; a < 64; ++a) {
        before64[bits][a] = sum;
        if (a <= bits && a <= 32) sum += choose[32][a] * choose[32][bits - a];
      }
    }
    for (int bits = 0; bits <= 32; ++bits) {
      std::uint32_t sum = 0;
      for (int a = 0; a < 32; ++a) {
        before32[bits][a] = sum;
        if (a <= bits && a <= 16) sum += static_cast<std::uint32_t>(choose[16][a] * choose[16][bits - a]);
      }
    }
    std::uint32_t next = 0;
    for (int bits = 0; bits <= 16; ++bits) {
      first16[bits] = next;
      for (std::uint32_t word = 0; word < 65536; ++word)
        if (popcount(word) == bits) {
          word16[next] = static_cast<std::uint16_t>(word);
          place16[word] = static_cast<std::uint16_t>(next - first16[bits]);
          ++next;
        }
    }
    first16[17] = next;
  }
};

const Tables& tables() {
  static const std::unique_ptr<const Tables> made(new Tables());
  return *made;
}

// The last of 2^kSteps rising numbers that is not above `place`; where several are equal, the last of them.
template <int kSteps, class Int>
int find(const Int* before, Int place) {
  int a = 0;
  for (int step = 1 << (kSteps - 1); step > 0; step /= 2) a = before[a + step] <= place ? a + step : a;
  return a;
}

std::uint32_t at32(const Tables& t, int bits, std::uint32_t place) {
  const int low = find<5>(t.before32[bits], place), high = bits - low;
  const std::uint32_t rest = place - t.before32[bits][low], ways = t.first16[high + 1] - t.first16[high];
  return t.word16[t.first16[low] + rest / ways] | static_cast<std::uint32_t>(t.word16[t.first16[high] + rest % ways]) << 16;
}

std::uint32_t place32(const Tables& t, std::uint32_t word) {
  const int bits = popcount(word), low = popcount(word & 0xffff), high = bits - low;
  return t.before32[bits][low] + t.place16[word & 0xffff] * (t.first16[high + 1] - t.first16[high]) + t.place16[word >> 16];
}

}  // namespace

std::uint64_t windows_with(int bits) { return tables().choose[64][bits]; }

int window_width(int bits) { return tables().width[bits]; }

std::uint64_t window_place(std::uint64_t word) {
  const Tables& t = tables();
  const auto lower = static_cast<std::uint32_t>(word), upper = static_cast<std::uint32_t>(word >> 32);
  const int low = popcount(lower), high = popcount(upper);
  return t.before64[low + high][low] + place32(t, lower) * t.choose[32][high] + place32(t, upper);
}

std::uint64_t window_at(int bits, std::uint64_t place) {
  const Tables& t = tables();
  const int low = find<6>(t.before64[bits], place), high = bits - low;
  const std::uint64_t rest = place - t.before64[bits][low], ways = t.choose[32][high];
  return at32(t, low, static_cast<std::uint32_t>(rest / ways)) |
         static_cast<std::uint64_t>(at32(t, high, static_cast<std::uint32_t>(rest % ways))) << 32;
}

}  // namespace aerogel
