#include "runtime/linear_run.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "base/cpus.h"

namespace aerogel {
namespace {

// A part below this many multiplications (some 10 microseconds) costs more to hand out than it saves.
constexpr std::int64_t kPartWork = 200'000;
// Parts a thread: a few, so that one that is late has little left to do, not many, since each part prepares its
// activations anew.
constexpr std::int64_t kPartsPerThread = 3;
// A part above this many multiplications (some 10 milliseconds, 30 of floats) is a long time for those who wait for their turn, or
// for a call to end that is told to stop.
constexpr std::int64_t kMostPartWork = 1'000'000'000;

// Tokens are shared out in whole groups, of which a part has several: the widest tile of a kernel.
constexpr std::int64_t kTokenGroup = 32;
constexpr std::int64_t kPartTokens = 64;

// First unit whose cost reaches `share` / `shares` of the whole.
std::int64_t cut(const Weight& weight, std::int64_t share, std::int64_t shares) {
  const std::int64_t units = weight.units();
  if (share <= 0) return 0;
  if (share >= shares) return units;
  const std::int64_t wanted = weight.cost(units) / shares * share + weight.cost(units) % shares * share / shares;
  std::int64_t low = 0, high = units;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (weight.cost(middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Rows [first, end) of a call, in parts for `threads`: each some rows of x and some units of the weights.
struct Span {
  const LinearForm* form;
  std::int64_t first, end, token_parts, unit_parts;

  Span(const LinearForm& form, std::int64_t first, std::int64_t end, int threads) : form(&form), first(first), end(end) {
    const Weight& weight = *form.weight;
    const std::int64_t m = end - first, work = std::max<std::int64_t>(weight.nonzeros(), weight.n()) * m;
    const std::int64_t least_parts = std::min(work / kMostPartWork + 1, (m + kTokenGroup - 1) / kTokenGroup);
    token_parts = least_parts;
    unit_parts = 1;
    if (threads == 1) return;
    const std::int64_t most = threads * kPartsPerThread;
    std::int64_t parts = std::clamp<std::int64_t>(work / kPartWork, 1, most);
    if (parts > threads) parts = parts / threads * threads;
    // Tokens are shared out first: kernels prepare the tokens of a call, and what is shared out twice is prepared twice.
    token_parts = std::max(least_parts, std::clamp<std::int64_t>(m / kPartTokens, 1, parts));
    unit_parts = std::min(token_parts >= 2 * threads ? 1 : (parts + token_parts - 1) / token_parts, weight.units());
  }

  std::int64_t parts() const { return token_parts * unit_parts; }

  // task, of the whole call, cut to a part.
  LinearTask part(LinearTask task, std::int64_t part, std::size_t x_bytes) const {
    const std::int64_t unit_part = part / token_parts, token_part = part % token_parts;
    // Whole groups of tokens, so that only the last part has an odd number.
    const std::int64_t groups = (end - first + kTokenGroup - 1) / kTokenGroup;
    const std::int64_t from = first + groups * token_part / token_parts * kTokenGroup;
    const std::int64_t to = std::min(first + groups * (token_part + 1) / token_parts * kTokenGroup, end);
    task.weight = form->weight->view();
    task.x = static_cast<const char*>(task.x) + static_cast<std::size_t>(from * task.ldx) * x_bytes;
    if (task.x_scale != nullptr) task.x_scale += from;
    task.m = to - from;
    task.unit_begin = cut(*form->weight, unit_part, unit_parts);
    task.unit_end = cut(*form->weight, unit_part + 1, unit_parts);
    task.y += from * task.ldy;
    return task;
  }
};

}  // namespace

void run_linear(const PackedLinear& linear, const void* x, const float* x_scale, std::int64_t ldx, std::int64_t m,
                const float* bias, float* y, const Crew& crew, ScratchPool& scratch) {
  const std::int64_t whole = linear.whole(m);
  const Span most(linear.form(m), 0, whole, crew.size()), rest(linear.form(m - whole), whole, m, crew.size());
  LinearTask call{};
  call.x = x;
  call.x_scale = x_scale;
  call.ldx = ldx;
  call.bias = bias;
  call.ldy = linear.n();
  call.y = y;
  const std::size_t x_bytes = linear.quantized_x() ? 1 : sizeof(float);
  crew.run(most.parts() + (whole < m ? rest.parts() : 0), [&](std::int64_t part, int thread) noexcept {
    const Span& span = part < most.parts() ? most : rest;
    LinearTask task = span.part(call, part < most.parts() ? part : part - most.parts(), x_bytes);
    task.scratch = scratch.of(thread);
    if (task.unit_begin < task.unit_end && task.m > 0) span.form->kernel->run(task);
  });
}

Team& shared_team(int threads) {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<Team>>* teams = new std::map<int, std::unique_ptr<Team>>;
  const std::lock_guard<std::mutex> guard(mutex);
  std::unique_ptr<Team>& team = (*teams)[threads == 0 ? default_threads() : threads];
  if (team == nullptr) team = std::make_unique<Team>(threads == 0 ? default_threads() : threads);
  return *team;
}

void linear_once(const PackedLinear& linear, const float* x, std::int64_t m, const float* bias, float* y, int threads) {
  const std::int64_t k = linear.k();
  const OnceCrew once(threads);
  ScratchPool scratch(once.crew().size());
  scratch.reserve(linear.scratch_bytes(m));
  if (!linear.quantized_x()) {
    run_linear(linear, x, nullptr, k, m, bias, y, once.crew(), scratch);
    return;
  }
  const std::int64_t ld = round_up<std::int64_t>(k, 64);
  AlignedBuffer<std::int8_t> codes(static_cast<std::size_t>(m * ld));
  AlignedBuffer<float> scale(static_cast<std::size_t>(m));
  const Ops& ops = ops_for(active_isa());
  once.crew().over_rows(m, k, [&](std::int64_t row, std::int64_t rows, int) {
    ops.quantize({x + row * k, k, rows, k, codes.data() + row * ld, ld, scale.data() + row});
  });
  run_linear(linear, codes.data(), scale.data(), ld, m, bias, y, once.crew(), scratch);
}

}  // namespace aerogel
