// Codes of 16 bits, but for what an instruction set does to vectors: dot, store_keys (four of a, four of b, and so on) and join. After body.h.
#pragma once

namespace aerogel {
namespace {

template <class Own>
struct WordCodes {
  using Code = std::int16_t;
  static constexpr std::int64_t per = 2, step = kPanel;
  static constexpr int offset = 0, value_offset = 0;
  static constexpr AttentionKind kind = kAttentionWords;
  static Bits weigh(Bits sum, Bits a, Bits b) { return Own::dot(sum, a, b); }
  static void store_queries(Code* p, Bits a, Bits b) { Own::store_keys(p, a, b); }
  static void store_weights(Code* p, const Bits (&x)[2]) { Own::store_keys(p, x[0], x[1]); }
  static std::int64_t key_of(std::int64_t g) { return g / 4 * 4 + (g & 1) * 2 + (g & 2) / 2 * kLanes; }
};

}  // namespace
}  // namespace aerogel
