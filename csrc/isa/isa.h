// Instruction sets: their names, what this CPU has, and which one the process uses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace aerogel {

// The same word is the file name of a kernel, the value of AEROGEL_ISA and the id of a test.
enum class Isa : std::uint8_t { scalar, avx2, avxvnni, avx512vnni, neon, neondot };

// What a kernel may need beyond its ISA.
enum Feature : std::uint32_t {
  kNoFeature = 0,
  kVbmi = 1u << 0,   // AVX512_VBMI: vpermb
  kVbmi2 = 1u << 1,  // AVX512_VBMI2: vpexpandb; with VBMI and GFNI (vgf2p8affineqb), which all CPUs have that have it
};

const char* isa_name(Isa isa);

// Throws IsaError, listing the known names, if `name` is none of them.
Isa isa_from_name(const std::string& name);

// Whether this CPU has the instructions *and* the operating system saves their registers (XGETBV).
bool isa_supported(Isa isa);

// Feature bits of this CPU.
std::uint32_t cpu_features();

// Every ISA that this machine can run, best first; the last is always scalar.
const std::vector<Isa>& supported_isas();

// The ISA in use: the best supported one, or the one named by the environment variable AEROGEL_ISA, read once.
// Throws IsaError if that names an unknown or unsupported one.
Isa active_isa();

// ISAs to look for a kernel in when `isa` is in use, best first: itself, then what it includes, then scalar.
std::vector<Isa> isa_chain(Isa isa);

// "AMD EPYC 9755" or the like; empty where the system does not say.
std::string cpu_name();

}  // namespace aerogel
