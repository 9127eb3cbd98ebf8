#include "isa/isa.h"

#include <cstdlib>
#include <cstring>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace aerogel {
namespace {

struct Named {
  Isa isa;
  const char* name;
};

// Best first within an architecture.
constexpr Named kIsas[] = {
    {Isa::avx512vnni, "avx512vnni"},
    {Isa::avxvnni, "avxvnni"},
    {Isa::avx2, "avx2"},
    {Isa::neondot, "neondot"},
    {Isa::neon, "neon"},
    {Isa::scalar, "scalar"},
};

struct Cpu {
  bool avx2 = false;
  bool avxvnni = false;
  bool avx512vnni = false;
  bool neon = false;
  bool neondot = false;
  std::uint32_t features = kNoFeature;
};

#if defined(__x86_64__)
std::uint64_t xgetbv0() {
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

bool bit(std::uint32_t word, int index) { return (word >> index) & 1u; }

Cpu detect() {
  Cpu cpu;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
  const bool osxsave = bit(c, 27), fma = bit(c, 12), f16c = bit(c, 29);
  if (!osxsave) return cpu;
  const std::uint64_t saved = xgetbv0();
  const bool ymm = (saved & 0x6) == 0x6;     // SSE and AVX state
  [[maybe_unused]] const bool zmm = (saved & 0xe6) == 0xe6;  // and opmask, upper zmm, zmm16-31
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
  cpu.avx2 = ymm && fma && f16c && bit(b, 5);
#if AEROGEL_AVX512VNNI
  const bool avx512 = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);  // F, DQ, BW, VL
  cpu.avx512vnni = cpu.avx2 && zmm && avx512 && bit(c, 11);
#endif
  if (cpu.avx512vnni && bit(c, 1)) cpu.features |= kVbmi;
  if (cpu.avx512vnni && bit(c, 1) && bit(c, 6) && bit(c, 8)) cpu.features |= kVbmi2;
#if AEROGEL_AVXVNNI
  const std::uint32_t subleaves = a;
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) cpu.avxvnni = cpu.avx2 && bit(a, 4);
#endif
  return cpu;
}
#elif defined(__aarch64__)
bool has_dot_product() {
#if !AEROGEL_NEONDOT
  return false;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) >> 20 & 1u) != 0;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  int has = 0;
  std::size_t bytes = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &bytes, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}

Cpu detect() {
  Cpu cpu;
  cpu.neon = true;  // Advanced SIMD is part of the AArch64 base
  cpu.neondot = has_dot_product();
  return cpu;
}
#else
Cpu detect() { return {}; }
#endif

const Cpu& cpu() {
  static const Cpu detected = detect();
  return detected;
}

std::string names_of(const std::vector<Isa>& isas) {
  std::string text;
  for (Isa isa : isas) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
  return text;
}

}  // namespace

const char* isa_name(Isa isa) {
  for (const Named& row : kIsas)
    if (row.isa == isa) return row.name;
  return "?";
}

Isa isa_from_name(const std::string& name) {
  std::vector<Isa> known;
  for (const Named& row : kIsas) {
    if (name == row.name) return row.isa;
    known.push_back(row.isa);
  }
  throw IsaError("unknown instruction set '" + name + "': expected one of " + names_of(known));
}

bool isa_supported(Isa isa) {
  switch (isa) {
    case Isa::avx512vnni: return cpu().avx512vnni;
    case Isa::avxvnni: return cpu().avxvnni;
    case Isa::avx2: return cpu().avx2;
    case Isa::neondot: return cpu().neondot;
    case Isa::neon: return cpu().neon;
    case Isa::scalar: return true;
  }
  return false;
}

std::uint32_t cpu_features() { return cpu().features; }

const std::vector<Isa>& supported_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found;
    for (const Named& row : kIsas)
      if (isa_supported(row.isa)) found.push_back(row.isa);
    return found;
  }();
  return isas;
}

Isa active_isa() {
  static const Isa active = [] {
    const char* forced = std::getenv("AEROGEL_ISA");
    if (forced == nullptr || *forced == '\0') return supported_isas().front();
    const Isa isa = isa_from_name(forced);
    if (!isa_supported(isa))
      throw IsaError("AEROGEL_ISA=" + std::string(forced) + " is not supported by this CPU: it has " +
                     names_of(supported_isas()));
    return isa;
  }();
  return active;
}

std::vector<Isa> isa_chain(Isa isa) {
  switch (isa) {
    case Isa::avx512vnni:  // does not include AVX-VNNI, the same instructions in another encoding
      if (isa_supported(Isa::avxvnni)) return {Isa::avx512vnni, Isa::avxvnni, Isa::avx2, Isa::scalar};
      return {Isa::avx512vnni, Isa::avx2, Isa::scalar};
    case Isa::avxvnni: return {Isa::avxvnni, Isa::avx2, Isa::scalar};
    case Isa::avx2: return {Isa::avx2, Isa::scalar};
    case Isa::neondot: return {Isa::neondot, Isa::neon, Isa::scalar};
    case Isa::neon: return {Isa::neon, Isa::scalar};
    case Isa::scalar: return {Isa::scalar};
  }
  return {Isa::scalar};
}

std::string cpu_name() {
#if defined(__x86_64__)
  char text[49] = {};
  std::uint32_t a, b, c, d;
  if (!__get_cpuid(0x80000000u, &a, &b, &c, &d) || a < 0x80000004u) return "";
  for (std::uint32_t leaf = 0; leaf < 3; ++leaf) {
    __get_cpuid(0x80000002u + leaf, &a, &b, &c, &d);
    const std::uint32_t words[4] = {a, b, c, d};
    std::memcpy(text + 16 * leaf, words, 16);
  }
  std::string name(text);
  const auto begin = name.find_first_not_of(' ');
  const auto end = name.find_last_not_of(' ');
  return begin == std::string::npos ? "" : name.substr(begin, end - begin + 1);
#else
  return "";
#endif
}

}  // namespace aerogel
