#include "codec/windows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "codec/bits.h"

namespace aerogel {
namespace {

int popcount(std::uint32_t v) {
  int bits = 0;
  for (; v != 0; v &= v - 1) ++bits;
  return bits;
}

// The lower half of a place's word is found from the place's highest bits, and then by some steps up.
constexpr int kGuessBits = 7;

template <class Int>
void make_guesses(const Int* before, Int all, std::uint8_t& shift, std::uint8_t* guess) {
  shift = 0;
  while ((all - 1) >> shift >> kGuessBits != 0) ++shift;
  int a = 0;
  for (Int i = 0; i < Int{1} << kGuessBits; ++i) {
    const Int place = i << shift;
    while (place < all && before[a + 1] <= place) ++a;
    guess[i] = static_cast<std::uint8_t>(a);
  }
}

// Everything that is looked up; 320 KB, made at the first use.
struct Tables {
  std::uint64_t choose[65][65];  // C(n, k), 0 for k > n
  std::uint8_t width[65];
  // [bits][a]: places before the first word with a bits in its lower half. Past the last: as many as there are.
  std::uint64_t before64[65][34];
  std::uint32_t before32[33][18];
  // [bits][place >> shift]: where to begin to look in before. At most kGuessBits bits.
  std::uint8_t shift64[65], shift32[33], guess64[65][1 << kGuessBits], guess32[33][1 << kGuessBits];
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
      for (int a = 0; a < 34; ++a) {
        before64[bits][a] = sum;
        if (a <= bits && a <= 32) sum += choose[32][a] * choose[32][bits - a];
      }
      make_guesses(before64[bits], sum, shift64[bits], guess64[bits]);
    }
    for (int bits = 0; bits <= 32; ++bits) {
      std::uint32_t sum = 0;
      for (int a = 0; a < 18; ++a) {
        before32[bits][a] = sum;
        if (a <= bits && a <= 16) sum += static_cast<std::uint32_t>(choose[16][a] * choose[16][bits - a]);
      }
      make_guesses(before32[bits], sum, shift32[bits], guess32[bits]);
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

// How many bits are set in the lower half of the word at `place`: the last a with before[a] <= place.
template <class Int>
int find(const Int* before, const std::uint8_t* guess, int shift, Int place) {
  int a = guess[place >> shift];
  while (before[a + 1] <= place) ++a;
  return a;
}

std::uint32_t at32(const Tables& t, int bits, std::uint32_t place) {
  const int low = find(t.before32[bits], t.guess32[bits], t.shift32[bits], place), high = bits - low;
  const std::uint32_t rest = place - t.before32[bits][low], ways = t.first16[high + 1] - t.first16[high];
  return t.word16[t.first16[low] + rest / ways] | static_cast<std::uint32_t>(t.word16[t.first16[high] + rest % ways]) << 16;
}

std::uint32_t place32(const Tables& t, std::uint32_t word) {
  const int bits = popcount(word), low = popcount(word & 0xffff), high = bits - low;
  return t.before32[bits][low] + t.place16[word & 0xffff] * (t.first16[high + 1] - t.first16[high]) + t.place16[word >> 16];
}

std::uint64_t at64(const Tables& t, int bits, std::uint64_t place) {
  const int low = find(t.before64[bits], t.guess64[bits], t.shift64[bits], place), high = bits - low;
  const std::uint64_t rest = place - t.before64[bits][low], ways = t.choose[32][high];
  return at32(t, low, static_cast<std::uint32_t>(rest / ways)) |
         static_cast<std::uint64_t>(at32(t, high, static_cast<std::uint32_t>(rest % ways))) << 32;
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

std::uint64_t window_at(int bits, std::uint64_t place) { return at64(tables(), bits, place); }

std::uint64_t places_width(const std::uint8_t* bits, std::int64_t count) {
  const Tables& t = tables();
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += t.width[bits[i]];
  return sum;
}

bool read_windows(const std::uint8_t* bits, std::int64_t count, const std::uint8_t* places, std::size_t bytes, std::uint64_t at,
                  std::uint8_t* out) noexcept {
  const Tables& t = tables();
  for (std::int64_t i = 0; i < count; ++i, out += 8) {
    const int width = t.width[bits[i]], skip = static_cast<int>(at % 8);
    const std::size_t byte = at / 8;
    std::uint8_t last[16] = {};  // a copy of the end, so that whole words may be read
    const std::uint8_t* from = places + byte;
    if (byte + 9 > bytes) {
      if (byte < bytes) std::memcpy(last, from, bytes - byte);
      from = last;
    }
    std::uint64_t place = load_le<std::uint64_t>(from) >> skip;
    if (skip != 0) place |= static_cast<std::uint64_t>(from[8]) << (64 - skip);
    place &= (std::uint64_t{1} << width) - 1;
    at += static_cast<std::uint64_t>(width);
    if (place >= t.choose[64][bits[i]]) return false;
    const std::uint64_t word = at64(t, bits[i], place);
    for (int j = 0; j < 8; ++j) out[j] = static_cast<std::uint8_t>(word >> (8 * j));
  }
  return true;
}

}  // namespace aerogel
