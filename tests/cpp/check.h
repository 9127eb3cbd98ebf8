// A small test harness: a test is a function behind TEST, a failed CHECK throws with its place and what was seen.
#pragma once

#include <cstdint>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace aerogel::testing {

struct Test {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(const char* name, std::function<void()> body) { tests().push_back({name, std::move(body)}); }
};

// A body calls skip("why") where it cannot run; it is counted and printed, never a silent pass.
struct Skipped : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] inline void skip(const std::string& why) { throw Skipped(why); }

#define TEST(name)                                                        \
  static void name();                                                     \
  static const ::aerogel::testing::Register register_##name(#name, name); \
  static void name()

// CHECK(condition, "what: " << values)
#define CHECK(condition, message)                                                          \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      std::ostringstream text_;                                                            \
      text_ << __FILE__ << ":" << __LINE__ << ": " << #condition << " is false: " << message; \
      throw std::runtime_error(text_.str());                                               \
    }                                                                                      \
  } while (false)

// xorshift: the same numbers on every platform.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  std::int64_t below(std::int64_t limit) { return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(limit)); }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(next() >> 40) * (1.0f / 16777216.0f);
  }

 private:
  std::uint64_t state_;
};

}  // namespace aerogel::testing
