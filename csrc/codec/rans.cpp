#include "codec/rans.h"

#include <algorithm>
#include <array>

#include "base/aligned.h"
#include "base/error.h"
#include "base/stop.h"
#include "codec/bits.h"
#include "codec/frequencies.h"

namespace aerogel {
namespace {

// Long enough that the 36 bytes of a chunk do not count, short enough that a core's share of a large tensor is many.
constexpr std::int64_t kShortest = 16384, kLongest = 65536;
constexpr std::int64_t kChunkBytes = 4 + 4 * kRansLanes;

// A multiple of kRansChunks chunks of one length, where they are not too short then.
std::int64_t chunk_length(std::int64_t n) {
  const std::int64_t groups = std::max<std::int64_t>(1, (n + kRansChunks * kLongest - 1) / (kRansChunks * kLongest));
  const std::int64_t chunks = groups * kRansChunks;
  return std::max(kShortest, round_up<std::int64_t>((n + chunks - 1) / chunks, kRansLanes));
}

Counts count(const std::uint8_t* data, std::int64_t n) {
  Counts counts[4] = {};  // several, so that equal neighbours do not wait for each other
  for (std::int64_t i = 0; i < n; ++i) ++counts[i % 4][data[i]];
  for (std::size_t s = 0; s < 256; ++s) counts[0][s] += counts[1][s] + counts[2][s] + counts[3][s];
  return counts[0];
}

// Codes a chunk from its last symbol to its first. `words` has room for n words, and gets them from its end backwards.
// Returns the first of them.
std::uint16_t* encode_chunk(const std::uint8_t* data, std::int64_t n, const Frequencies& f, const Frequencies& start,
                            std::uint16_t* words_end, std::uint32_t* state) {
  std::fill_n(state, kRansLanes, kRansLow);
  for (std::int64_t i = n - 1; i >= 0; --i) {
    std::uint32_t& x = state[i % kRansLanes];
    const std::uint32_t width = f[data[i]];
    if (x >= width << (32 - kRansBits)) {
      *--words_end = static_cast<std::uint16_t>(x);
      x >>= 16;
    }
    x = (x / width << kRansBits) + x % width + start[data[i]];
  }
  return words_end;
}

// With a look before each word. Decodes what the kernels leave: they want 8 words for 8 symbols.
bool finish(const std::uint32_t* table, RansChunk& chunk) {
  for (std::int64_t i = 0; i < chunk.left; ++i) {
    std::uint32_t& x = chunk.state[i % kRansLanes];
    const std::uint32_t entry = table[x & (kRansTotal - 1)];
    x = (entry >> 20) * (x >> kRansBits) + (entry >> 8 & (kRansTotal - 1));
    if (x < kRansLow) {
      if (chunk.words == chunk.end) return false;
      x = x << 16 | load_le<std::uint16_t>(chunk.words);
      chunk.words += 2;
    }
    *chunk.out++ = static_cast<std::uint8_t>(entry);
  }
  return chunk.words == chunk.end && std::all_of(chunk.state, chunk.state + kRansLanes, [](std::uint32_t x) { return x == kRansLow; });
}

// Steps of eight that are safe without looking.
std::int64_t safe_steps(const RansChunk& chunk) {
  return std::min<std::int64_t>(chunk.left / kRansLanes, (chunk.end - chunk.words) / (2 * kRansLanes));
}

}  // namespace

void encode_rans(const std::uint8_t* data, std::int64_t n, std::vector<std::uint8_t>& out) {
  const std::int64_t chunk = chunk_length(n), chunks = (n + chunk - 1) / chunk;
  const ChosenFrequencies chosen = choose_frequencies(count(data, n));
  append_le(out, static_cast<std::uint32_t>(chunk));
  out.insert(out.end(), chosen.text.begin(), chosen.text.end());
  Frequencies start{};
  for (std::size_t s = 1; s < 256; ++s) start[s] = static_cast<std::uint16_t>(start[s - 1] + chosen.frequencies[s - 1]);
  std::vector<std::uint8_t> counts, states, words;
  std::vector<std::uint16_t> buffer(static_cast<std::size_t>(chunk));
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    stop_if_requested();
    std::uint32_t state[kRansLanes];
    std::uint16_t* const end = buffer.data() + buffer.size();
    const std::uint16_t* first = encode_chunk(data + begin, std::min(chunk, n - begin), chosen.frequencies, start, end, state);
    append_le(counts, static_cast<std::uint32_t>(end - first));
    for (std::uint32_t x : state) append_le(states, x);
    for (; first != end; ++first) append_le(words, *first);
  }
  out.reserve(out.size() + static_cast<std::size_t>(chunks * kChunkBytes) + words.size());
  for (const auto* part : {&counts, &states, &words}) out.insert(out.end(), part->begin(), part->end());
}

std::int64_t rans_bytes(const std::uint8_t* data, std::int64_t n) {
  const ChosenFrequencies chosen = choose_frequencies(count(data, n));
  const std::int64_t chunk = chunk_length(n);
  return 4 + static_cast<std::int64_t>(chosen.text.size()) + (n + chunk - 1) / chunk * kChunkBytes +
         static_cast<std::int64_t>(chosen.bits / 8);
}

RansBody parse_rans(const std::string& name, const std::uint8_t* data, std::size_t bytes, std::int64_t n) {
  const auto refuse = [&](const std::string& what) { throw DataError(name + ": " + what); };
  RansBody body{};
  const std::uint8_t* const end = data + bytes;
  if (bytes < 4) refuse("truncated: expected the length of a chunk, " + std::to_string(bytes) + " bytes are left");
  body.n = n;
  body.chunk = load_le<std::uint32_t>(data);
  if (body.chunk < kRansLanes || body.chunk > kLongest || body.chunk % kRansLanes != 0)
    refuse("chunk length: expected a multiple of 8 up to 65536, got " + std::to_string(body.chunk));
  Frequencies f;
  data += 4;
  data += read_frequencies(name, data, bytes - 4, f);
  body.chunks = n / body.chunk + (n % body.chunk != 0 ? 1 : 0);
  if (body.chunks > (end - data) / kChunkBytes)
    refuse("truncated: expected " + std::to_string(body.chunks) + " chunks, " + std::to_string(end - data) + " bytes are left");
  body.counts = data;
  body.states = body.counts + 4 * body.chunks;
  body.words = body.states + 4 * kRansLanes * body.chunks;
  std::int64_t words = 0;  // below 2^32 * 2^58
  for (std::int64_t i = 0; i < body.chunks; ++i) {
    words += load_le<std::uint32_t>(body.counts + 4 * i);
    if (words > (end - body.words) / 2)
      refuse("truncated: expected " + std::to_string(words) + " words up to chunk " + std::to_string(i) + ", " +
             std::to_string(end - body.words) + " bytes are left");
  }
  body.end = body.words + 2 * words;
  body.table.reserve(kRansTotal);
  for (std::uint32_t s = 0; s < 256; ++s)
    for (std::uint32_t i = 0; i < f[s]; ++i) body.table.push_back(static_cast<std::uint32_t>(f[s]) << 20 | i << 8 | s);
  return body;
}

RansSteps rans_steps(Isa isa) {
#if defined(__x86_64__)
  for (Isa one : isa_chain(isa))
    if (one == Isa::avx2) return rans_steps_avx2;
#endif
  (void)isa;
  return rans_steps_scalar;
}

std::int64_t rans_groups(const RansBody& body) { return (body.chunks + kRansChunks - 1) / kRansChunks; }

bool decode_rans(const RansBody& body, RansSteps steps, std::int64_t group, std::uint8_t* out) noexcept {
  const std::uint32_t* table = body.table.data();
  RansChunk chunks[kRansChunks];
  RansChunk* running[kRansChunks];
  int count = 0;
  const std::int64_t first = group * kRansChunks;
  const std::uint8_t* words = body.words;
  for (std::int64_t i = 0; i < first; ++i) words += std::size_t{2} * load_le<std::uint32_t>(body.counts + 4 * i);
  for (std::int64_t i = first; i < std::min(body.chunks, first + kRansChunks); ++i) {
    RansChunk& chunk = chunks[count];
    chunk.words = words;
    words += std::size_t{2} * load_le<std::uint32_t>(body.counts + 4 * i);
    chunk.end = words;
    chunk.out = out + i * body.chunk;
    chunk.left = std::min(body.chunk, body.n - i * body.chunk);
    for (int lane = 0; lane < kRansLanes; ++lane) {
      chunk.state[lane] = load_le<std::uint32_t>(body.states + 4 * (i * kRansLanes + lane));
      if (chunk.state[lane] < kRansLow) return false;
    }
    running[count++] = &chunk;
  }
  bool good = true;
  while (count > 0) {
    std::int64_t safe = safe_steps(*running[0]);
    for (int i = 1; i < count; ++i) safe = std::min(safe, safe_steps(*running[i]));
    if (safe > 0) {
      steps(table, running, count, safe);
      for (int i = 0; i < count; ++i) running[i]->left -= safe * kRansLanes;
    }
    for (int i = count - 1; i >= 0; --i)
      if (safe_steps(*running[i]) == 0) {
        good = finish(table, *running[i]) && good;
        running[i] = running[--count];
      }
  }
  return good;
}

}  // namespace aerogel
