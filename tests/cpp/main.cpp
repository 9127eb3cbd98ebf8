// Runs the C++ tests: aerogel_tests [SUBSTRING]. Exit status 1 if one failed.
#include <cstdio>
#include <cstring>

#include "check.h"
#include "isa/isa.h"

int main(int argc, char** argv) {
  using namespace aerogel::testing;
  const char* only = argc > 1 ? argv[1] : "";
  std::printf("instruction sets here:");
  for (aerogel::Isa isa : aerogel::supported_isas()) std::printf(" %s", aerogel::isa_name(isa));
  std::printf("\n");
  int passed = 0, failed = 0, skipped = 0;
  for (const Test& test : tests()) {
    if (std::strstr(test.name.c_str(), only) == nullptr) continue;
    try {
      test.body();
      ++passed;
      std::printf("ok       %s\n", test.name.c_str());
    } catch (const Skipped& reason) {
      ++skipped;
      std::printf("SKIPPED  %s: %s\n", test.name.c_str(), reason.what());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED   %s\n         %s\n", test.name.c_str(), error.what());
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed != 0 || passed == 0;
}
