// The contract of every operation that is not a linear layer. One task struct an op; all arrays row-major, sizes in
// elements, `ld*` the elements between rows. ops.inc has one row per op.
//
// This header is included by kernel files: plain data only, nothing that could leave a weak symbol behind.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// quantize: one signed 8-bit scale per token (dynamic, symmetric).
//     scale[t] = max_k |x[t,k]| / 127                q[t,k] = round_half_even(x[t,k] * (127 / max_k |x[t,k]|))
// in exactly these float operations (127 / max is one division, then one multiplication per element), so codes and
// scales are bit-identical on every ISA, and clamped to [-127, 127]. A row of zeros, or one whose max is so small
// that 127 / max is not finite, has scale 0 and codes 0. A row that holds a NaN or an infinity has scale NaN and
// codes 0: the poison reaches the output, it is never hidden.
// With a limit the scale is the same for every row (static), and values beyond it are cut:
//     scale[t] = limit / 127            q[t,k] = clamp(round_half_even(x[t,k] * (127 / limit)), -127, 127)
// A NaN or an infinity poisons its row all the same.
// Codes width..ldq are set to 0. q rows are 64-byte aligned, ldq a multiple of 64.
struct QuantizeTask {
  const float* x;
  std::int64_t ldx;
  std::int64_t rows, width;
  std::int8_t* q;
  std::int64_t ldq;
  float* scale;         // [rows]
  float limit = 0.0f;   // 0: dynamic; else positive, and both it and 127 / limit are finite
};

// layer_norm: s = x (+ residual);  y = (s - mean(s)) / sqrt(var(s) + eps) * gamma + beta
// rms_norm:   s = x (+ residual);  y = s / sqrt(mean(s^2) + eps) * gamma
// The variance is the biased one, of centred values (two passes over the row while it is in L1).
// x, residual, sum and y may be the same array.
struct NormTask {
  const float* x;         // [rows, ldx]
  const float* residual;  // [rows, ldx] or null
  std::int64_t ldx;
  std::int64_t rows, width;
  const float* gamma;     // [width]
  const float* beta;      // [width] or null; rms_norm: null
  float eps;
  float* sum;             // [rows, ldx] receives s, or null
  float* y;               // [rows, ldy]; ldy = 0: one row of scratch, when only the codes are wanted
  std::int64_t ldy;
  std::int8_t* q;         // [rows, ldq] receives quantize(y), or null
  std::int64_t ldq;
  float* q_scale;         // [rows], with q
};

// Activations, element by element:
//     gelu_erf   x/2 * (1 + erf(x / sqrt 2))
//     gelu_tanh  x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))
//     relu       max(x, 0)          tanh_act   tanh(x)         silu   x / (1 + exp(-x))
//     f_gate     f(x[t, c]) * x[t, width + c]                  x has 2 * width columns, y has width
// y may be x (a gate: its first half is overwritten).
struct ActivationTask {
  const float* x;
  std::int64_t ldx;
  std::int64_t rows, width;
  float* y;               // [rows, ldy]; ldy = 0: one row of scratch, when only the codes are wanted
  std::int64_t ldy;
  std::int8_t* q;         // [rows, ldq] receives quantize(y), or null
  std::int64_t ldq;
  float* q_scale;         // [rows], with q
};

// add: y = a + b. y may be a or b.
struct AddTask {
  const float* a;
  const float* b;
  float* y;
  std::int64_t count;
};

// scale: y = x * factor. y may be x.
struct ScaleTask {
  const float* x;
  float* y;
  std::int64_t count;
  float factor;
};

// embed_f32, embed_bf16, embed_f16: y[t] (+)= table[ids[t]]            embed_q8: y[t] (+)= float(codes[ids[t]]) * scale[ids[t]]
// ids are in range: the caller has checked them.
struct EmbedTask {
  const std::int32_t* ids;    // [rows]
  std::int64_t rows, width;
  const float* f32;           // [entries, width], embed_f32
  const std::int8_t* q8;      // [entries, width], embed_q8
  const float* scale;         // [entries], embed_q8
  bool accumulate;            // add to y instead of overwriting it
  float* y;                   // [rows, width]
  const std::uint16_t* half = nullptr;  // [entries, width], embed_bf16 and embed_f16
};

// rope, "half split" (the layout of Hugging Face Llama): for every head of d columns and i < pairs
//     a = x[i], b = x[i + pairs];   x[i] = a cos - b sin;   x[i + pairs] = b cos + a sin
// with cos[position - first, i] and sin[position - first, i]. In place; columns from 2 * pairs on stay as they are.
struct RopeTask {
  float* x;                        // [rows, ldx]: `heads` heads of d columns from column 0
  std::int64_t ldx;
  std::int64_t rows, heads, d;
  std::int64_t pairs;              // 2 * pairs <= d
  const std::int32_t* positions;   // [rows]
  std::int32_t first;              // the position of row 0 of cos and sin
  const float* cos;                // [.., pairs]
  const float* sin;
};

// attention: some queries of one sequence against its keys; one key/value head and the query heads that share it. For each
//     s[i,j] = scale * sum_c q[i,c] k[j,c];   p = softmax_j(s);   y[i,c] = sum_j p[i,j] v[j,c]
// With t = j - (position + i), the distance of a key from its query (position is that of query 0 among the keys):
//     softcap    s becomes softcap * tanh(s / softcap), before what follows
//     bias       bias[clamp(t, -reach, reach) + reach] is added to s
//     slopes     slope * |t| is taken from s
//     causal     a query sees keys with t <= 0 only
//     window     a query sees keys with |t| <= window only
// Every query sees a key. What a query does not see does not touch its result, NaNs included.
struct AttentionTask {
  const float* q;                  // [queries, ldq]: `heads` heads of d columns from column 0
  std::int64_t ldq;
  const float* k;                  // [keys, ldk]
  std::int64_t ldk;
  const float* v;                  // [keys, ldv]
  std::int64_t ldv;
  std::int64_t queries, keys, d;   // d <= 256
  std::int64_t heads;
  bool causal;
  std::int64_t position;
  float scale;
  const float* next_k;             // keys that the next call will probably read, as many, to be fetched ahead; or null
  float* y;                        // [queries, ldy], heads as in q
  std::int64_t ldy;
  void* scratch;                   // attention_scratch_bytes(queries, keys, d, window >= 0), 64-byte aligned, this call's own
  std::int64_t window = -1;        // -1: none
  float softcap = 0.0f;            // 0: none; else positive
  const float* bias = nullptr;     // [heads, 2 * reach + 1] or null
  std::int64_t reach = 0;
  const float* slopes = nullptr;   // [heads] or null
};

// Keys that kernels look at together; beyond so many, and without a window, results of several such parts are put together, so that
// what kernels need does not grow with the keys (but for the scores of a few queries).
constexpr std::int64_t kAttentionPart = 1024;

// Enough for any attention kernel here; each documents what it puts there.
static inline std::size_t attention_scratch_bytes(std::int64_t queries, std::int64_t keys, std::int64_t d, bool windowed) {
  const auto padded = [](std::int64_t n) { return static_cast<std::size_t>((n + 31) / 32 * 32); };
  const bool parts = !windowed && keys > kAttentionPart;
  const std::size_t block = static_cast<std::size_t>(queries < 48 ? queries : 48) + 2, width = padded(d);
  const std::size_t together = padded(parts && kAttentionPart + queries < keys ? kAttentionPart + queries : keys);
  // a block of queries and their scores, what is added to these by distance, and a packed panel of keys and values; of parts,
  // the result of one, and three numbers a query
  const std::size_t many = block * (together + 32) + block * width + 2 * together * width + (parts ? (width + 3) * padded(queries) : 0);
  // three heads' scores, queries, and what is added by distance
  const std::size_t few = 4 * (padded(keys) + 64) + 3 * width;
  return 4 * (many < few ? few : many) + 256;
}

// attention_int16, attention_int8: the same, with the products of whole numbers, of a kind with a limit L, B bits of values and largest weight
// W. The scales are a query's, a key's and a key's values' own, so that what a query does not see has no part in its result here either:
//     q'[i,c] = round(q[i,c] * (L / max_c |q[i,c]|));   k'[j,c] the same of k
//     v'[j,c] = round(v[j,c] * 2^(B - x[j])), 2^x[j] the least power of two above max_c |v[j,c]|; 128 is cut to 127
//     t[i,j]  = (s[i,j] of the codes, times both scales) log2 e + x[j];   m[i] = max_j t[i,j]
//     p'[i,j] = round(W * 2^(t - m))
//     y[i,c]  = sum_j p'[i,j] v'[j,c] 2^-B / sum_j W * 2^(t - m) * 2^-x[j]
// An infinity is a NaN here, and so are values of 2^48 and more: of what is smaller the sum holds all that counts.
// for the keys that the first of 128 queries sees and those that follow, 128 at a time, whose results are added up as floats: so 32 bits
// hold every sum. All roundings are half to even, and all sums of codes exact, on every ISA; exponentials are off by 1.1e-4.
// Where attention_in_codes is not so, it is attention.
constexpr std::int64_t kAttentionChunk = 128;  // keys whose products are one sum: 128 * 4095 * 4096 < 2^31
constexpr float kLeastMagnitude = 1e-30f;      // of a row: smaller ones are taken for it
constexpr std::int64_t kLeastCodes = 48;       // queries and keys: with fewer, making codes takes longer than they save
constexpr std::uint32_t kInfinityBits = 0x7f800000u;
constexpr std::uint32_t kTooLargeBits = 0x57800000u;  // 2^48

struct AttentionKind {
  float limits[4];     // L of heads of up to 32, 64, 128 and 256
  int value_bits;      // B
  float value_limit;   // the largest code of a value
  float weight;        // W
  float log2_weight;
  constexpr float limit(std::int64_t d) const { return limits[d <= 32 ? 0 : d <= 64 ? 1 : d <= 128 ? 2 : 3]; }
};
// Of words, the largest L with d L^2 < 2^31, for the largest d of its kind.
constexpr AttentionKind kAttentionWords{{8191.0f, 5792.0f, 4095.0f, 2895.0f}, 12, 4096.0f, 4095.0f, 11.9996477f};
// Weights take all eight bits, as they are never negative.
constexpr AttentionKind kAttentionBytes{{127.0f, 127.0f, 127.0f, 127.0f}, 7, 127.0f, 255.0f, 7.99435344f};

static inline bool attention_in_codes(const AttentionTask& task) { return task.queries >= kLeastCodes && task.keys >= kLeastCodes && task.softcap == 0.0f; }

// Of the bits of the largest magnitude of a key's values.
static inline std::int32_t value_exponent(std::uint32_t bits) {
  const std::int32_t exponent = static_cast<std::int32_t>(bits >> 23) - 126;
  return exponent < -40 ? -40 : exponent > 48 ? 48 : exponent;
}
// exponent in [-126, 127]
static inline float power_of_two(std::int32_t exponent) {
  const std::uint32_t bits = static_cast<std::uint32_t>(exponent + 127) << 23;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// Enough for `attention` too, which serves small tasks.
static inline std::size_t attention_codes_scratch_bytes(std::int64_t queries, std::int64_t keys, std::int64_t d, bool windowed) {
  const std::size_t width = static_cast<std::size_t>((d + 31) / 32 * 32), chunk = static_cast<std::size_t>(kAttentionChunk);
  // codes of queries and keys, panels of keys and values, scores of 24 queries, what is added to these by distance
  const std::size_t codes = 2 * 4 * chunk * width + 4 * (24 * (chunk + 32) + chunk + 64) + 256;
  const std::size_t floats = attention_scratch_bytes(queries, keys, d, windowed);
  return codes < floats ? floats : codes;
}

// Rows that are kept for tokens to come lie in blocks of kKeptTokens tokens. In every block the rows of one head are found at the same
// place: those of the block's tokens end to end, and so, for int8, the scale of each.
//
//     blocks[t / kKeptTokens] + at        row 0 | row 1 | ... | row kKeptTokens - 1       row = d numbers
//     blocks[t / kKeptTokens] + scales    a float each                                    int8 only
constexpr std::int64_t kKeptTokens = 64;

enum class Kept { float32, float16, int8 };

static inline std::int64_t kept_row_bytes(Kept numbers, std::int64_t d) {
  return numbers == Kept::float32 ? 4 * d : numbers == Kept::float16 ? 2 * d : d;
}

// Bytes from the begin of a block.
struct KeptPlace {
  std::int64_t at, scales;
};

// keep_rows: of some tokens, of heads whose places follow one another.
//     float32    as they are
//     float16    rounded half to even, and cut to +-65504, an infinity a NaN: bit-identical on every ISA, but for the bits of NaNs
//     int8       as `quantize` does it, a row of a head with its own scale: bit-identical on every ISA
struct KeepTask {
  const float* x;                  // [rows, ldx]: `heads` heads of d columns
  std::int64_t ldx;
  std::int64_t rows, heads, d;     // d <= 4096
  Kept numbers;
  std::uint8_t* const* blocks;     // from that of token 0 on
  std::int64_t position;           // of row 0
  KeptPlace place;                 // of head 0
};

// cached_attention: attention over keys and values that are kept, one key/value head. Scores and results are those of the numbers
// that are kept; key 0 of the task is the row of token `first`. Without k, ldk, v, ldv and next_k.
struct CachedAttentionTask {
  AttentionTask task;
  Kept numbers;
  const std::uint8_t* const* blocks;
  std::int64_t first;
  KeptPlace keys, values;
  std::int64_t next_keys;          // where the keys of the next call are, as many, to be fetched ahead: KeptPlace::at; or -1
};

// disentangled_attention: of some queries of one sequence and one head, over all of its keys, with products of contents and
// positions (arXiv 2006.03654). With t = j - (position + i) and m = rows[clamp(t, -reach, reach) + reach]:
//     s[i,j] = scale * (sum_c q[i,c] k[j,c] + sum_c q[i,c] position_keys[m,c] + sum_c k[j,c] position_queries[m,c])
//     p = softmax_j(s);   y[i,c] = sum_j p[i,j] v[j,c]
struct DisentangledTask {
  const float* q;                  // [queries, ld], and so on: slices of the same rows
  const float* k;                  // [keys, ld]
  const float* v;                  // [keys, ld]
  std::int64_t ld;
  std::int64_t queries, keys, d;   // d <= 256
  std::int64_t position;           // of query 0 among the keys
  float scale;
  const float* position_keys;      // [.., ldp] or null
  const float* position_queries;   // [.., ldp] or null
  std::int64_t ldp;
  const std::int32_t* rows;        // [2 * reach + 1], not decreasing
  std::int64_t reach;
  float* y;                        // [queries, ldy]
  std::int64_t ldy;
  void* scratch;                   // disentangled_scratch_bytes(queries, keys, d, rows from the first to the last), 64-byte aligned
};

static inline std::size_t disentangled_scratch_bytes(std::int64_t queries, std::int64_t keys, std::int64_t d, std::int64_t rows) {
  const auto padded = [](std::int64_t n) { return static_cast<std::size_t>((n + 31) / 32 * 32); };
  const std::size_t n = padded(keys), width = padded(d), of_rows = padded(rows) + 32;
  // keys, values and positions as panels, scaled keys, their products with positions; a block of queries, with both its products;
  // rows by distance, and some more of them
  return 4 * (3 * n * width + 2 * of_rows * width + n * of_rows + 48 * (n + 32 + of_rows + width) + n +
              static_cast<std::size_t>(queries) + 32) + 256;
}

// short_conv: a causal convolution along the tokens of one sequence, each channel for itself, between two gates. x[t] is B | C | X, each
// `width` wide:
//     v[t] = B[t] * X[t];   y[t,c] = C[t,c] * (bias[c] + sum_j kernel[j,c] * v[t - taps + 1 + j, c])
// The sum begins with the bias, or with the first product, and goes on from j = 0, each product and each sum rounded: results are
// bit-identical on every ISA, and however a sequence is cut.
struct ShortConvTask {
  const float* x;         // [rows, ldx]
  std::int64_t ldx;
  std::int64_t rows, width;
  std::int64_t taps;      // at least 1
  const float* kernel;    // [taps, width]
  const float* bias;      // [width] or null
  float* v;               // [taps - 1 + rows, width]: those of the tokens before row 0 are there, the others are written
  float* y;               // [rows, ldy]; ldy = 0: one row of scratch, when only the codes are wanted
  std::int64_t ldy;
  std::int8_t* q;         // [rows, ldq] receives quantize(y), or null
  std::int64_t ldq;
  float* q_scale;         // [rows], with q
};

// mean_pool: y[c] = mean_t x[t,c]       max_pool: y[c] = max_t x[t,c]       (rows >= 1)
struct PoolTask {
  const float* x;                  // [rows, ldx]
  std::int64_t ldx;
  std::int64_t rows, width;
  float* y;                        // [width]
};

// l2_normalize: y = x / max(|x|_2, 1e-12), row by row. y may be x.
struct NormalizeTask {
  const float* x;                  // [rows, width]
  std::int64_t rows, width;
  float* y;                        // [rows, width]
};

// sampled_product: out[i] = sum_t y[t, n] * x[t, k]     where the i-th kept place of a pattern is in row n and column k
// A product of y^T [rows, tokens] and x [tokens, k] of which most is not wanted: the gradient of a weight of whose places few are kept.
// The sums are in float32, in an order that the instruction set decides; a NaN or an infinity reaches the places of its row or column.
struct SampledTask {
  const float* x;                  // [tokens, ldx]
  std::int64_t ldx;
  const float* y;                  // [tokens, ldy]
  std::int64_t ldy;
  std::int64_t tokens, k;
  std::int64_t rows;
  const std::int32_t* row_begin;   // [rows + 1]: the places of row n are row_begin[n] to row_begin[n + 1]
  const std::int32_t* column;      // of a place, in [0, k); fastest where those of a row ascend
  float* out;                      // at row_begin[0] to row_begin[rows], written
  void* scratch;                   // sampled_scratch() bytes, 64-byte aligned
};

// The most tokens that a kernel takes together, and the fewest columns.
constexpr std::int64_t kMostSampledTokens = 128, kFewestSampledColumns = 96;

static constexpr std::size_t sampled_scratch(std::int64_t k, std::int64_t rows) {
  const std::int64_t floats = (k + rows) * kMostSampledTokens, begins = (k / kFewestSampledColumns + 2) * rows;
  return static_cast<std::size_t>(floats * 4 + begins * 4);
}

}  // namespace aerogel
