// Runs the C++ tests whose name contains one of the arguments, all of them without: aerogel_tests [SUBSTRING...].
// Exit status 1 if one failed or none was found.
#include <cstdio>
#include <string>

#include "check.h"
#include "isa/isa.h"
#include "vpdpbusd.h"

static bool wanted(const std::string& name, int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (name.find(argv[i]) != std::string::npos) return true;
  return argc <= 1;
}

int main(int argc, char** argv) {
  using namespace aerogel::testing;
  std::printf("instruction sets here:");
  for (aerogel::Isa isa : aerogel::supported_isas()) std::printf(" %s", aerogel::isa_name(isa));
  std::printf("%s\n", emulates_vpdpbusd() ? " (avxvnni with vpdpbusd emulated)" : "");
  int passed = 0, failed = 0, skipped = 0;
  for (const Test& test : tests()) {
    if (!wanted(test.name, argc, argv)) continue;
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
