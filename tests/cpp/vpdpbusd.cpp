#include "vpdpbusd.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>

#include "isa/isa.h"
#include "kernels/table.h"

namespace aerogel::testing {
namespace {

unsigned high_halves = 0;  // where the state that the kernel saves has the upper halves of the ymm registers

// The registers that the interrupted code goes on with.
struct Registers {
  std::uint8_t* low;
  std::uint8_t* high;
  void read(int index, std::uint8_t* out) const {
    std::memcpy(out, low + 16 * index, 16);
    std::memcpy(out + 16, high + 16 * index, 16);
  }
  void write(int index, const std::uint8_t* from) const {
    std::memcpy(low + 16 * index, from, 16);
    std::memcpy(high + 16 * index, from + 16, 16);
  }
};

Registers registers(ucontext_t* context) {
  auto* const state = reinterpret_cast<std::uint8_t*>(context->uc_mcontext.fpregs);
  const Registers found = {state + 160, state + high_halves};
  std::uint64_t present;  // a part that is absent has its initial value, 0
  std::memcpy(&present, state + 512, sizeof present);
  if ((present & 2) == 0) std::memset(found.low, 0, 256);
  if ((present & 4) == 0) std::memset(found.high, 0, 256);
  present |= 6;
  std::memcpy(state + 512, &present, sizeof present);
  return found;
}

// VEX.256.66.0F38.W0 50 /r between registers, the only form that the kernels use; anything else ends the process as before.
void on_illegal_instruction(int, siginfo_t*, void* opaque) {
  auto* const context = static_cast<ucontext_t*>(opaque);
  greg_t& rip = context->uc_mcontext.gregs[REG_RIP];
  const auto* code = reinterpret_cast<const std::uint8_t*>(rip);
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x87) != 5 || code[3] != 0x50 || code[4] < 0xc0) {
    signal(SIGILL, SIG_DFL);
    return;
  }
  const int sum_at = (code[4] >> 3 & 7) | (code[1] & 0x80 ? 0 : 8);
  const int unsigned_at = ~(code[2] >> 3) & 15;
  const int signed_at = (code[4] & 7) | (code[1] & 0x20 ? 0 : 8);
  const Registers ymm = registers(context);
  std::uint8_t a[32], b[32], c[32];
  ymm.read(unsigned_at, a);
  ymm.read(signed_at, b);
  ymm.read(sum_at, c);
  for (int lane = 0; lane < 32; lane += 4) {
    std::uint32_t sum;
    std::memcpy(&sum, c + lane, 4);
    for (int i = lane; i < lane + 4; ++i) sum += static_cast<std::uint32_t>(int{a[i]} * static_cast<std::int8_t>(b[i]));
    std::memcpy(c + lane, &sum, 4);
  }
  ymm.write(sum_at, c);
  rip += 5;
}

bool install() {
  if (linear_kernel("dense_q8", Isa::avxvnni) == nullptr || isa_supported(Isa::avxvnni) || !isa_supported(Isa::avx2)) return false;
  unsigned bytes = 0, b = 0, c = 0;
  if (!__get_cpuid_count(0xd, 2, &bytes, &high_halves, &b, &c)) return false;
  struct sigaction action = {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, nullptr) == 0;
}

}  // namespace

bool emulates_vpdpbusd() {
  static const bool emulates = install();
  return emulates;
}

}  // namespace aerogel::testing
#else
namespace aerogel::testing {
bool emulates_vpdpbusd() { return false; }
}  // namespace aerogel::testing
#endif
