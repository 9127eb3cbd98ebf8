#include "runtime/session.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>

#include "base/error.h"

namespace aerogel {
namespace {

// Row-wise steps are cut into parts of about this many elements; below two of them, one thread does it alone.
constexpr std::int64_t kPartElements = 12'000;
// Attention below this many multiplications is not worth waking anybody for.
constexpr std::int64_t kSerialAttention = 300'000;
constexpr std::int64_t kQueryBlock = 128;
constexpr std::int64_t kSharedQueries = 5;
// Tokens that a thread works on when sequences are run side by side: enough to reuse each weight that is loaded from
// cache many times, few enough that the activations stay in the cache.
constexpr std::int64_t kFrameTokens = 256;

std::vector<KvShape> cache_shapes(const Program& program) {
  std::vector<KvShape> shapes(program.attentions());
  for (const Op& op : program.ops())
    if (op.kind == OpKind::attention) shapes[op.layer] = {op.kv_heads, op.head_dim};
  return shapes;
}

// What a linear with two terms works in, for a block of tokens:
//
//     codes [2 block, codes_ld(k)] int8 | scales [2 block] | rest [block, k] | sums [2 block, n]       (float)
//
// First all tokens' first terms, then all second ones. Blocks keep the sums of a wide layer small.
struct TermsLayout {
  std::int64_t block, codes, scales, rest, sums;  // bytes, but block

  explicit TermsLayout(const Op& op) {
    const std::int64_t n = op.linear.n(), k = op.linear.k();
    constexpr std::int64_t kSums = 4 << 20;
    block = std::clamp<std::int64_t>(kSums / n / 2, 8, 256);
    codes = round_up<std::int64_t>(2 * block * codes_ld(k), kCacheLine);
    scales = round_up<std::int64_t>(2 * block * 4, kCacheLine);
    rest = round_up<std::int64_t>(block * k * 4, kCacheLine);
    sums = round_up<std::int64_t>(2 * block * n * 4, kCacheLine);
  }
  std::size_t bytes() const { return static_cast<std::size_t>(codes + scales + rest + sums); }
};

// f(first row, rows, thread) over all rows.
template <class F>
void over_rows(const Crew& crew, std::int64_t rows, std::int64_t width, const F& f) {
  std::int64_t parts = 1;
  if (crew.size() > 1)
    parts = std::clamp<std::int64_t>(rows * width / kPartElements, 1, std::min<std::int64_t>(rows, 4 * crew.size()));
  crew.run(parts, [&](std::int64_t part, int thread) noexcept {
    const std::int64_t begin = rows * part / parts, end = rows * (part + 1) / parts;
    if (begin < end) f(begin, end - begin, thread);
  });
}

}  // namespace

// The sequences that one pass over the schedule works on: the whole batch, or a run of its sequences.
struct Session::Frame {
  const Batch& batch;
  std::int64_t first_sequence, sequences;
  std::int64_t first_token, tokens;
  const std::int32_t* positions;           // [tokens]
  const std::vector<KvSequence*>& caches;  // one per sequence of the batch, or empty
  std::vector<std::uint8_t*> slots;

  std::int64_t rows(Rows kind) const {
    if (kind == Rows::tokens || (kind == Rows::selected && !batch.last_only)) return tokens;
    return sequences;
  }
  // Tokens of sequence s of this frame: [begin(s), begin(s + 1)), from the frame's first token.
  std::int64_t begin(std::int64_t s) const { return batch.offsets[first_sequence + s] - first_token; }

  float* floats(int slot) const { return slot < 0 ? nullptr : reinterpret_cast<float*>(slots[slot]); }
  std::int8_t* codes(int slot) const { return slot < 0 ? nullptr : reinterpret_cast<std::int8_t*>(slots[slot]); }
  float* scales(int slot, std::int64_t rows_count, std::int64_t width) const {
    return slot < 0 ? nullptr : reinterpret_cast<float*>(slots[slot] + rows_count * codes_ld(width));
  }
};

Session::Session(std::shared_ptr<const Plan> plan)
    : plan_(std::move(plan)), cache_(cache_shapes(plan_->program())), scratch_(plan_->threads()), arenas_(plan_->threads()), terms_(plan_->threads()) {}

std::int64_t Session::result_rows(const Schedule& schedule, const Batch& batch) const {
  switch (schedule.result_rows) {
    case Rows::tokens: return batch.token_count;
    case Rows::sequences: return batch.sequences;
    case Rows::selected: return batch.last_only ? batch.sequences : batch.token_count;
  }
  return 0;
}

void Session::check(const Schedule& schedule, const Batch& batch) const {
  const auto text = [](std::int64_t number) { return std::to_string(number); };
  const std::int64_t* offsets = batch.offsets;
  if (batch.sequences < 1) throw ShapeError("offsets: expected at least one sequence, got none");
  if (offsets[0] != 0 || offsets[batch.sequences] != batch.token_count)
    throw ShapeError("offsets: expected to run from 0 to the " + text(batch.token_count) + " tokens, got " + text(offsets[0]) +
                     " to " + text(offsets[batch.sequences]));
  for (std::int64_t s = 0; s < batch.sequences; ++s)
    if (offsets[s + 1] <= offsets[s])
      throw ShapeError("offsets: sequence " + text(s) + " is empty or runs backwards: " + text(offsets[s]) + " to " +
                       text(offsets[s + 1]));
  if (batch.slots != nullptr) {
    if (!schedule.uses_attention_cache) throw Error("slots: this model has no causal attention, so it keeps no KV cache");
    std::set<std::int64_t> seen;
    for (std::int64_t s = 0; s < batch.sequences; ++s)
      if (!seen.insert(batch.slots[s]).second) throw DataError("slots: " + text(batch.slots[s]) + " is given twice");
  }
  const std::int64_t limit = plan_->program().max_positions();
  if (limit != 0)
    for (std::int64_t s = 0; s < batch.sequences; ++s) {
      const std::int64_t held = batch.slots == nullptr ? 0 : cache_.length(batch.slots[s]);
      const std::int64_t length = held + offsets[s + 1] - offsets[s];
      if (length > limit)
        throw ShapeError("sequence " + text(s) + ": expected at most " + text(limit) + " positions, got " + text(length));
    }
  for (const Step& step : schedule.steps) {
    if (step.kind != StepKind::embed) continue;
    const Table& tokens = *step.op->tokens;
    for (std::int64_t t = 0; t < batch.token_count; ++t)
      if (batch.tokens[t] < 0 || batch.tokens[t] >= tokens.entries)
        throw DataError("token " + text(t) + ": expected an id in [0, " + text(tokens.entries) + "), got " + text(batch.tokens[t]));
    if (batch.types == nullptr) continue;
    if (step.op->types == nullptr) throw DataError("token types were given, but this model has none");
    for (std::int64_t t = 0; t < batch.token_count; ++t)
      if (batch.types[t] < 0 || batch.types[t] >= step.op->types->entries)
        throw DataError("token " + text(t) + ": expected a type in [0, " + text(step.op->types->entries) + "), got " +
                        text(batch.types[t]));
  }
}

// Sequences do not depend on each other. When there are enough of them, each thread takes some through the whole model
// alone: no waiting for the others between ops. Returns the frames' first sequences and the end, or nothing if the
// whole team had better share each op.
std::vector<std::int64_t> Session::side_by_side(const Batch& batch) const {
  const std::int64_t threads = plan_->threads();
  if (profile_ || threads == 1 || batch.sequences < 2 || batch.token_count < 48 * threads) return {};
  const std::int64_t target =
      std::clamp<std::int64_t>((batch.token_count + threads - 1) / threads, 1, kFrameTokens);
  std::vector<std::int64_t> cuts{0};
  for (std::int64_t s = 1; s < batch.sequences; ++s) {
    const std::int64_t filled = batch.offsets[s] - batch.offsets[cuts.back()];
    const std::int64_t with_next = batch.offsets[s + 1] - batch.offsets[cuts.back()];
    // Cut where the frame is nearer to the target.
    if (with_next > target && with_next - target >= target - filled) cuts.push_back(s);
  }
  cuts.push_back(batch.sequences);
  // Threads take frames in turn; what matters is how much longer the last one to finish works than the average.
  std::vector<std::int64_t> busy(static_cast<std::size_t>(threads), 0);
  for (std::size_t f = 0; f + 1 < cuts.size(); ++f)
    *std::min_element(busy.begin(), busy.end()) += batch.offsets[cuts[f + 1]] - batch.offsets[cuts[f]];
  const std::int64_t longest = *std::max_element(busy.begin(), busy.end());
  if (longest * threads * 10 > batch.token_count * 12) return {};
  return cuts;
}

std::size_t Session::scratch_bytes(const Schedule& schedule, const Batch& batch, std::int64_t longest) const {
  std::size_t bytes = 0;
  std::int64_t widest = 0;
  const std::int64_t queries = std::min(longest, kQueryBlock);
  std::int64_t keys = longest;
  if (batch.slots != nullptr)
    for (std::int64_t s = 0; s < batch.sequences; ++s)
      keys = std::max(keys, cache_.length(batch.slots[s]) + batch.offsets[s + 1] - batch.offsets[s]);
  for (const Step& step : schedule.steps) {
    if (step.kind == StepKind::linear)
      bytes = std::max(bytes, step.op->linear.scratch_bytes(step.op->terms * batch.token_count));
    if (step.kind == StepKind::attention)
      bytes = std::max(bytes, attention_scratch_bytes(queries, keys, step.op->head_dim));
    widest = std::max(widest, step.width);
  }
  return std::max(bytes, static_cast<std::size_t>(round_up<std::int64_t>(widest, 64)) * sizeof(float));
}

void Session::run(const Schedule& schedule, const Batch& batch, float* y) {
  // Room first: whatever can fail for lack of memory does so before anything has changed.
  std::vector<KvSequence*> caches;
  positions_.resize(static_cast<std::size_t>(batch.token_count));
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t length = batch.offsets[s + 1] - batch.offsets[s];
    longest = std::max(longest, length);
    std::int64_t position = 0;
    if (batch.slots != nullptr) {
      caches.push_back(&cache_.slot(batch.slots[s]));
      position = caches.back()->length();
      caches.back()->reserve(position + length);
    }
    for (std::int64_t t = batch.offsets[s]; t < batch.offsets[s + 1]; ++t) positions_[t] = static_cast<std::int32_t>(position++);
  }
  scratch_.reserve(scratch_bytes(schedule, batch, longest));

  std::vector<std::int64_t> cuts = side_by_side(batch);
  const bool together = cuts.empty();
  if (together) cuts = {0, batch.sequences};
  const std::int64_t frames = static_cast<std::int64_t>(cuts.size()) - 1;
  std::int64_t frame_tokens = 0;
  for (std::int64_t f = 0; f < frames; ++f)
    frame_tokens = std::max(frame_tokens, batch.offsets[cuts[f + 1]] - batch.offsets[cuts[f]]);
  std::size_t arena_bytes = 0;
  for (std::size_t slot = 1; slot < schedule.slot_row_bytes.size(); ++slot)
    arena_bytes += static_cast<std::size_t>(round_up<std::int64_t>(schedule.slot_row_bytes[slot] * frame_tokens, kCacheLine));
  std::size_t terms_bytes = 0;
  for (const Step& step : schedule.steps)
    if (step.kind == StepKind::linear && step.op->terms == 2) terms_bytes = std::max(terms_bytes, TermsLayout(*step.op).bytes());
  const std::size_t used_arenas = together ? 1 : arenas_.size();
  for (std::size_t thread = 0; thread < used_arenas; ++thread)
    if (terms_[thread].size() < terms_bytes) terms_[thread] = AlignedBuffer<std::uint8_t>(terms_bytes);
  for (std::size_t thread = 0; thread < used_arenas; ++thread)
    if (arenas_[thread].size() < arena_bytes) arenas_[thread] = AlignedBuffer<std::uint8_t>(arena_bytes);

  // Frames are laid out here, so that nothing is allocated while the team runs.
  std::vector<Frame> prepared;
  prepared.reserve(static_cast<std::size_t>(frames));
  for (std::int64_t f = 0; f < frames; ++f) {
    const std::int64_t first_token = batch.offsets[cuts[f]];
    prepared.push_back({batch, cuts[f], cuts[f + 1] - cuts[f], first_token, batch.offsets[cuts[f + 1]] - first_token,
                        positions_.data() + first_token, caches, std::vector<std::uint8_t*>(schedule.slot_row_bytes.size())});
  }
  const auto run_one = [&](std::int64_t f, const Crew& crew) {
    Frame& frame = prepared[f];
    std::uint8_t* next = arenas_[crew.thread].data();
    for (std::size_t slot = 1; slot < frame.slots.size(); ++slot) {
      frame.slots[slot] = next;
      next += round_up<std::int64_t>(schedule.slot_row_bytes[slot] * frame.tokens, kCacheLine);
    }
    const std::int64_t result_row =
        schedule.result_rows == Rows::tokens || (schedule.result_rows == Rows::selected && !batch.last_only) ? frame.first_token
                                                                                                              : frame.first_sequence;
    frame.slots[0] = reinterpret_cast<std::uint8_t*>(y + result_row * schedule.result_width);
    run_frame(schedule, frame, crew);
  };
  {
    const auto lock = plan_->team().lock();
    if (together)
      run_one(0, Crew{&plan_->team(), 0});
    else
      plan_->team().run(frames, [&](std::int64_t f, int thread) noexcept { run_one(f, Crew{nullptr, thread}); });
  }
  for (std::size_t s = 0; s < caches.size(); ++s) caches[s]->advance(batch.offsets[s + 1] - batch.offsets[s]);
}

void Session::profile(bool on) {
  profile_ = on;
  timings_.clear();
}

void Session::run_frame(const Schedule& schedule, Frame& frame, const Crew& crew) {
  if (!profile_) {
    for (const Step& step : schedule.steps) run_step(step, frame, crew);
    return;
  }
  if (timings_.size() != schedule.steps.size() || timings_[0].step != &schedule.steps[0]) {
    timings_.clear();
    for (const Step& step : schedule.steps) timings_.push_back({&step, 0, 0.0});
  }
  for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    run_step(schedule.steps[i], frame, crew);
    timings_[i].seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++timings_[i].calls;
  }
}

void Session::run_step(const Step& step, Frame& frame, const Crew& crew) {
  const Ops& ops = plan_->ops();
  const Op& op = *step.op;
  const std::int64_t width = step.width, rows = frame.rows(step.rows), ldq = codes_ld(width);
  float* const y = frame.floats(step.y);
  std::int8_t* const yq = frame.codes(step.yq);
  float* const yq_scale = frame.scales(step.yq, rows, width);
  const float* const x = frame.floats(step.x);

  switch (step.kind) {
    case StepKind::embed:
      over_rows(crew, rows, width, [&](std::int64_t begin, std::int64_t count, int) {
        // All tables of a few rows before the next few: the sums stay in L1.
        constexpr std::int64_t kBlock = 8;
        std::int32_t ids[kBlock];
        for (std::int64_t r = begin; r < begin + count; r += kBlock) {
          const std::int64_t block = std::min(kBlock, begin + count - r);
          const auto sum = [&](const Table& table, const std::int32_t* rows_ids, bool accumulate) {
            const EmbedTask task{rows_ids, block, width, table.f32, table.q8, table.scale, accumulate, y + r * width, table.bf16};
            table.q8 != nullptr ? ops.embed_q8(task) : table.bf16 != nullptr ? ops.embed_bf16(task) : ops.embed_f32(task);
          };
          sum(*op.tokens, frame.batch.tokens + frame.first_token + r, false);
          if (op.positions != nullptr) {
            for (std::int64_t i = 0; i < block; ++i)
              ids[i] = frame.positions[r + i] + static_cast<std::int32_t>(op.position_offset);
            sum(*op.positions, ids, true);
          }
          if (op.types != nullptr) {
            for (std::int64_t i = 0; i < block; ++i)
              ids[i] = frame.batch.types == nullptr ? 0 : frame.batch.types[frame.first_token + r + i];
            sum(*op.types, ids, true);
          }
        }
      });
      break;

    case StepKind::layer_norm:
    case StepKind::rms_norm:
      over_rows(crew, rows, width, [&](std::int64_t begin, std::int64_t count, int thread) {
        NormTask task{};
        task.x = x + begin * width;
        task.residual = step.residual < 0 ? nullptr : frame.floats(step.residual) + begin * width;
        task.ldx = width;
        task.rows = count;
        task.width = width;
        task.gamma = op.gamma->data();
        task.beta = op.beta == nullptr ? nullptr : op.beta->data();
        task.eps = op.eps;
        task.sum = step.sum < 0 ? nullptr : frame.floats(step.sum) + begin * width;
        task.y = y != nullptr ? y + begin * width : reinterpret_cast<float*>(scratch_.of(thread));
        task.ldy = y != nullptr ? width : 0;
        task.q = yq == nullptr ? nullptr : yq + begin * ldq;
        task.ldq = ldq;
        task.q_scale = yq == nullptr ? nullptr : yq_scale + begin;
        step.kind == StepKind::layer_norm ? ops.layer_norm(task) : ops.rms_norm(task);
      });
      break;

    case StepKind::activation: {
      const std::int64_t in_width = op.activation == Activation::silu_gate ? 2 * width : width;
      void (*const kernels[])(const ActivationTask&) = {ops.gelu_erf, ops.gelu_tanh, ops.relu, ops.tanh_act, ops.silu, ops.silu_gate};
      void (*const kernel)(const ActivationTask&) = kernels[static_cast<int>(op.activation)];
      over_rows(crew, rows, in_width, [&](std::int64_t begin, std::int64_t count, int thread) {
        ActivationTask task{};
        task.x = x + begin * in_width;
        task.ldx = in_width;
        task.rows = count;
        task.width = width;
        task.y = y != nullptr ? y + begin * width : reinterpret_cast<float*>(scratch_.of(thread));
        task.ldy = y != nullptr ? width : 0;
        task.q = yq == nullptr ? nullptr : yq + begin * ldq;
        task.ldq = ldq;
        task.q_scale = yq == nullptr ? nullptr : yq_scale + begin;
        kernel(task);
      });
      break;
    }

    case StepKind::quantize:
      over_rows(crew, rows, width, [&](std::int64_t begin, std::int64_t count, int) {
        ops.quantize({x + begin * width, width, count, width, yq + begin * ldq, ldq, yq_scale + begin, step.limit});
      });
      break;

    case StepKind::linear: {
      const std::int64_t k = op.linear.k();
      const float* bias = op.bias == nullptr ? nullptr : op.bias->data();
      if (op.terms == 2)
        run_linear_terms(op, x, rows, y, crew);
      else if (step.xq >= 0)
        run_linear(op.linear, frame.codes(step.xq), frame.scales(step.xq, rows, k), codes_ld(k), rows, bias, y, crew, scratch_);
      else
        run_linear(op.linear, x, nullptr, k, rows, bias, y, crew, scratch_);
      break;
    }

    case StepKind::add:
      over_rows(crew, rows, width, [&](std::int64_t begin, std::int64_t count, int) {
        ops.add({x + begin * width, frame.floats(step.residual) + begin * width, y + begin * width, count * width});
      });
      break;

    case StepKind::rope:
      over_rows(crew, rows, width, [&](std::int64_t begin, std::int64_t count, int) {
        if (y != x) std::memcpy(y + begin * width, x + begin * width, static_cast<std::size_t>(count * width) * sizeof(float));
        ops.rope({y + begin * width, width, count, op.heads, op.head_dim, frame.positions + begin, op.cos->data(), op.sin->data()});
      });
      break;

    case StepKind::attention:
      run_attention(step, frame, crew);
      break;

    case StepKind::select_last:
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t token = frame.batch.last_only ? frame.begin(r + 1) - 1 : r;
        std::memcpy(y + r * width, x + token * width, static_cast<std::size_t>(width) * sizeof(float));
      }
      break;

    case StepKind::pool:
      for (std::int64_t s = 0; s < rows; ++s) {
        const std::int64_t begin = frame.begin(s), count = frame.begin(s + 1) - begin;
        const PoolTask task{x + begin * width, width, count, width, y + s * width};
        if (op.pooling == Pooling::mean) ops.mean_pool(task);
        else if (op.pooling == Pooling::max) ops.max_pool(task);
        else
          std::memcpy(task.y, op.pooling == Pooling::cls ? task.x : task.x + (count - 1) * width,
                      static_cast<std::size_t>(width) * sizeof(float));
      }
      break;

    case StepKind::l2_normalize:
      ops.l2_normalize({x, rows, width, y});
      break;
  }
}

void Session::run_linear_terms(const Op& op, const float* x, std::int64_t rows, float* y, const Crew& crew) {
  const Ops& ops = plan_->ops();
  const std::int64_t n = op.linear.n(), k = op.linear.k(), ld = codes_ld(k);
  const TermsLayout layout(op);
  std::uint8_t* const memory = terms_[crew.thread].data();
  auto* const codes = reinterpret_cast<std::int8_t*>(memory);
  auto* const scales = reinterpret_cast<float*>(memory + layout.codes);
  auto* const rest = reinterpret_cast<float*>(memory + layout.codes + layout.scales);
  auto* const sums = reinterpret_cast<float*>(memory + layout.codes + layout.scales + layout.rest);
  for (std::int64_t first = 0; first < rows; first += layout.block) {
    const std::int64_t count = std::min(layout.block, rows - first);
    over_rows(crew, count, 2 * k, [&](std::int64_t begin, std::int64_t part, int) {
      ops.quantize({x + (first + begin) * k, k, part, k, codes + begin * ld, ld, scales + begin});
      for (std::int64_t t = begin; t < begin + part; ++t)
        for (std::int64_t i = 0; i < k; ++i)
          rest[t * k + i] = x[(first + t) * k + i] - static_cast<float>(codes[t * ld + i]) * scales[t];
      ops.quantize({rest + begin * k, k, part, k, codes + (count + begin) * ld, ld, scales + count + begin});
    });
    run_linear(op.linear, codes, scales, ld, 2 * count, nullptr, sums, crew, scratch_);
    over_rows(crew, count, n, [&](std::int64_t begin, std::int64_t part, int) {
      float* const out = y + (first + begin) * n;
      ops.add({sums + begin * n, sums + (count + begin) * n, out, part * n});
      if (op.bias != nullptr)
        for (std::int64_t t = 0; t < part; ++t) ops.add({out + t * n, op.bias->data(), out + t * n, n});
    });
  }
}

void Session::run_attention(const Step& step, Frame& frame, const Crew& crew) {
  const Op& op = *step.op;
  const std::int64_t d = op.head_dim, group = op.heads / op.kv_heads;
  const std::int64_t q_width = op.heads * d, kv_width = op.kv_heads * d, ld = q_width + 2 * kv_width;
  const float* const qkv = frame.floats(step.x);
  float* const y = frame.floats(step.y);
  const bool cached = !frame.caches.empty() && op.causal;

  std::int64_t blocks = 0, work = 0;  // query blocks of all sequences
  for (std::int64_t s = 0; s < frame.sequences; ++s) {
    const std::int64_t begin = frame.begin(s), length = frame.begin(s + 1) - begin;
    blocks += (length + kQueryBlock - 1) / kQueryBlock;
    std::int64_t keys = length;
    if (cached) {
      KvSequence& cache = *frame.caches[frame.first_sequence + s];
      const std::int64_t held = cache.length();
      keys += held;
      for (std::int64_t t = 0; t < length; ++t) {
        const float* row = qkv + (begin + t) * ld + q_width;
        cache.write(op.layer, held + t, row, row + kv_width);
      }
    }
    work += length * keys * q_width * 2;
  }

  // A part is a head of a query block. Where so few queries are that reading the keys is what takes time, the query heads
  // that share them go together, as the part of the first one.
  const auto run_part = [&](std::int64_t part, int thread) {
    const std::int64_t head = part % op.heads;
    std::int64_t block = part / op.heads, s = 0, begin = 0, length = 0;
    for (;; ++s) {
      begin = frame.begin(s);
      length = frame.begin(s + 1) - begin;
      const std::int64_t here = (length + kQueryBlock - 1) / kQueryBlock;
      if (block < here) break;
      block -= here;
    }
    const std::int64_t first = block * kQueryBlock, queries = std::min(kQueryBlock, length - first), kv_head = head / group;
    const bool shared = queries < kSharedQueries;
    if (shared && head % group != 0) return;
    AttentionTask task{};
    task.q = qkv + (begin + first) * ld + head * d;
    task.ldq = ld;
    const KvSequence* cache = cached ? frame.caches[frame.first_sequence + s] : nullptr;
    const std::int64_t held = cached ? cache->length() : 0;
    const auto keys_of = [&](std::int64_t h) { return cached ? cache->keys(op.layer, h) : qkv + begin * ld + q_width + h * d; };
    task.k = keys_of(kv_head);
    task.v = cached ? cache->values(op.layer, kv_head) : task.k + kv_width;
    task.ldk = task.ldv = cached ? d : ld;
    task.queries = queries;
    // Keys behind the block's last query are never seen.
    task.keys = op.causal ? held + first + queries : length;
    task.d = d;
    task.heads = shared ? group : 1;
    // This thread's next head, if the threads take turns.
    const std::int64_t next = (head + crew.size()) / group;
    task.next_k = next < op.kv_heads && next != kv_head ? keys_of(next) : nullptr;
    task.causal = op.causal;
    task.first_key_limit = held + first;
    task.scale = op.scale;
    task.y = y + (begin + first) * q_width + head * d;
    task.ldy = q_width;
    task.scratch = scratch_.of(thread);
    plan_->ops().attention(task);
  };
  const std::int64_t parts = blocks * op.heads;
  if (work < kSerialAttention) {
    for (std::int64_t part = 0; part < parts; ++part) run_part(part, crew.thread);
    return;
  }
  crew.run(parts, [&](std::int64_t part, int thread) noexcept { run_part(part, thread); });
}

}  // namespace aerogel
