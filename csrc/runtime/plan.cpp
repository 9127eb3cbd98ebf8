#include "runtime/plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/cpus.h"
#include "base/error.h"
#include "runtime/ops/quantize.h"
#include "runtime/packed_linear.h"

namespace aerogel {
namespace {

// Two passes: steps over virtual buffers first, then buffers onto slots.
class Scheduler {
 public:
  Scheduler(const Program& program, const Program::Output& output) : program_(program), output_(output) {}

  Schedule build() {
    const int count = static_cast<int>(program_.ops().size());
    needed_.assign(count, false);
    mark_needed(output_.value);
    readers_.resize(count);
    for (int i = 0; i < count; ++i)
      if (needed_[i])
        for (int input : op(i).inputs()) readers_[input].push_back(i);
    choose_fusions();
    floats_.assign(count, -1);
    codes_.assign(count, {});
    for (int i = 0; i < count; ++i)
      if (needed_[i] && absorbed_by_[i] < 0) emit(i);
    schedule_.output = output_.name;
    schedule_.result = op(output_.value).result();
    schedule_.chains = chains_of(schedule_.steps);
    assign_slots();
    return std::move(schedule_);
  }

 private:
  struct Buffer {
    std::int64_t row_bytes;
    bool codes;
    int first, last;  // steps
  };

  const Op& op(int value) const { return *program_.ops()[value]; }

  void mark_needed(int value) {
    if (needed_[value]) return;
    needed_[value] = true;
    for (int input : op(value).inputs()) mark_needed(input);
  }

  // A sum is added inside its first reader, if that can.
  void choose_fusions() {
    absorbed_by_.assign(program_.ops().size(), -1);
    for (int i = 0; i < static_cast<int>(program_.ops().size()); ++i) {
      if (!needed_[i] || !op(i).is_sum() || readers_[i].empty()) continue;
      const int first = readers_[i].front();
      if (op(first).absorbs_sum()) absorbed_by_[i] = first;
    }
  }

  // The limits of the codes that a value is read as, 0 among them for those of each row's own.
  std::set<float> limits(int value) const {
    std::set<float> found;
    for (int reader : readers_[value])
      if (const auto limit = op(reader).reads_codes(); limit && op(reader).inputs()[0] == value) found.insert(*limit);
    return found;
  }

  // Whether somebody reads the floats, `except` aside: codes with a limit are made from them.
  bool read_as_floats(int value, int except = -1) const {
    if (value == output_.value) return true;
    for (int reader : readers_[value])
      for (std::size_t input = 0; input < op(reader).inputs().size(); ++input)
        if (reader != except && op(reader).inputs()[input] == value && (input != 0 || op(reader).reads_codes() != 0.0f)) return true;
    return false;
  }

  int new_buffer(std::int64_t row_bytes, bool codes) {
    buffers_.push_back({row_bytes, codes, static_cast<int>(schedule_.steps.size()), -1});
    return static_cast<int>(buffers_.size()) - 1;
  }
  int new_floats(int value) {
    return floats_[value] = new_buffer(op(value).result().width * static_cast<std::int64_t>(sizeof(float)), false);
  }
  int new_codes(int value, float limit) {
    return codes_[value][limit] = new_buffer(codes_ld(op(value).result().width) + static_cast<std::int64_t>(sizeof(float)), true);
  }

  void emit(int i) {
    const Op& o = op(i);
    if (o.kv_cache()) schedule_.uses_cache = true;
    Step step;
    step.op = &o;

    const int absorbed = !o.inputs().empty() && absorbed_by_[o.inputs()[0]] == i ? o.inputs()[0] : -1;
    if (absorbed >= 0) {
      for (int term : op(absorbed).inputs()) step.x.push_back(floats_[term]);
      if (read_as_floats(absorbed, i) || !limits(absorbed).empty()) step.sum = new_floats(absorbed);
    } else {
      const auto limit = o.reads_codes();
      if (limit) step.x_codes = codes_[o.inputs()[0]].at(*limit);
      for (std::size_t input = limit ? 1 : 0; input < o.inputs().size(); ++input) step.x.push_back(floats_[o.inputs()[input]]);
    }

    std::set<float> wanted = limits(i);
    const bool writes = o.writes_codes() && wanted.erase(0.0f) != 0;  // codes of each row's own limit, along with the floats
    if (o.in_place() && readers_[o.inputs()[0]].size() == 1 && o.inputs()[0] != output_.value) {
      step.y = floats_[i] = step.x[0];  // nobody else reads the input
    } else if (!writes || read_as_floats(i)) {
      step.y = new_floats(i);
    }
    if (writes) step.y_codes = new_codes(i, 0.0f);
    push(std::move(step));

    // An absorbed sum that is read as codes, and every other result that is, is quantized right away.
    if (absorbed >= 0)
      for (float limit : limits(absorbed)) push_quantize(absorbed, limit);
    for (float limit : wanted) push_quantize(i, limit);
  }

  void push_quantize(int value, float limit) {
    schedule_.quantizes.push_back(std::make_unique<const Quantize>(op(value).name(), value, op(value).result(), limit));
    Step step;
    step.op = schedule_.quantizes.back().get();
    step.x = {floats_[value]};
    step.y_codes = new_codes(value, limit);
    push(std::move(step));
  }

  void push(Step step) {
    const int index = static_cast<int>(schedule_.steps.size());
    for_each_slot(step, [&](int buffer) { buffers_[buffer].last = index; });
    schedule_.steps.push_back(std::move(step));
  }

  // f(slot) for every slot of a step that is one.
  template <class F>
  static void for_each_slot(Step& step, const F& f) {
    for (int& slot : step.x) f(slot);
    for (int* slot : {&step.x_codes, &step.sum, &step.y, &step.y_codes})
      if (*slot >= 0) f(*slot);
  }

  // Linear scan: a slot is free again after the last step that touches its buffer. The result's slot is its own. Within a chain, where
  // threads are at different steps, only a buffer of the same form may follow: its rows lie where those of the old one did.
  void assign_slots() {
    const int result = floats_[output_.value];
    slot_of_.assign(buffers_.size(), -1);
    schedule_.slot_row_bytes.push_back(buffers_[result].row_bytes);
    slot_of_[result] = 0;
    std::size_t next = 0;
    for (const Chain& chain : schedule_.chains) {
      std::vector<int> left;  // buffers that ended in this chain, and whose slots nobody has taken since
      for (int index = chain.begin; index < chain.end; ++index) {
        for (; next < buffers_.size() && buffers_[next].first <= index; ++next)
          if (slot_of_[next] < 0) slot_of_[next] = slot_for(buffers_[next], left);
        for (std::size_t buffer = 0; buffer < buffers_.size(); ++buffer)
          if (buffers_[buffer].last == index && slot_of_[buffer] > 0) left.push_back(static_cast<int>(buffer));
      }
      for (const int buffer : left) free_.insert(slot_of_[buffer]);
    }
    for (Step& step : schedule_.steps) for_each_slot(step, [&](int& buffer) { buffer = slot_of_[buffer]; });
  }

  // That of one of the buffers `left` of the same form, which is then no longer there; else the smallest free one that is large
  // enough, else the largest one, grown.
  int slot_for(const Buffer& buffer, std::vector<int>& left) {
    for (auto old = left.begin(); old != left.end(); ++old) {
      if (buffers_[*old].row_bytes != buffer.row_bytes || buffers_[*old].codes != buffer.codes) continue;
      const int slot = slot_of_[*old];
      left.erase(old);
      return slot;
    }
    std::vector<std::int64_t>& slots = schedule_.slot_row_bytes;
    int best = -1;
    for (const int slot : free_) {
      if (best < 0) {
        best = slot;
        continue;
      }
      const bool fits = slots[slot] >= buffer.row_bytes, best_fits = slots[best] >= buffer.row_bytes;
      if (fits != best_fits ? fits : fits ? slots[slot] < slots[best] : slots[slot] > slots[best]) best = slot;
    }
    if (best < 0) {
      best = static_cast<int>(slots.size());
      slots.push_back(0);
    }
    free_.erase(best);
    slots[best] = std::max(slots[best], buffer.row_bytes);
    return best;
  }

  const Program& program_;
  const Program::Output& output_;
  std::vector<bool> needed_;
  std::vector<std::vector<int>> readers_;
  std::vector<int> absorbed_by_;  // of a sum: the op it is added in
  std::vector<int> floats_;
  std::vector<std::map<float, int>> codes_;  // by limit
  std::vector<Buffer> buffers_;
  std::vector<int> slot_of_;  // of each buffer
  std::set<int> free_;        // slots
  Schedule schedule_;
};

// Most weights of linears are no floats.
bool is_quantized(const Program& program) {
  std::int64_t all = 0, floats = 0;
  for (const auto& op : program.ops())
    if (const PackedLinear* weight = op->weight()) {
      const std::string numbers = weight->numbers();
      all += weight->n() * weight->k();
      if (numbers == "float32" || numbers == "float16" || numbers == "bf16") floats += weight->n() * weight->k();
    }
  return all > 0 && floats <= all / 10;
}

AttentionProducts decided(const Program& program, AttentionProducts attention) {
  if (attention != AttentionProducts::automatic) return attention;
  if (!program.kv_caches().empty() || !is_quantized(program)) return AttentionProducts::float32;
  const auto fine = [](const auto& op) { return op->terms() > 1; };
  return std::any_of(program.ops().begin(), program.ops().end(), fine) ? AttentionProducts::int16 : AttentionProducts::int8;
}

}  // namespace

Plan::Plan(Program program, int threads, Isa isa, AttentionProducts attention)
    : program_(std::move(program)),
      attention_(decided(program_, attention)),
      ops_(ops_for(isa)),
      team_(std::make_unique<Team>(threads == 0 ? default_threads() : threads)) {
  if (attention_ == AttentionProducts::int16) ops_.attention = ops_.attention_int16;
  if (attention_ == AttentionProducts::int8) ops_.attention = ops_.attention_int8;
  if (program_.outputs().empty()) throw Error("the program has no output");
  for (const Program::Output& output : program_.outputs()) schedules_.push_back(Scheduler(program_, output).build());
}

const Schedule& Plan::schedule(const std::string& output) const {
  std::string known;
  for (const Schedule& schedule : schedules_) {
    if (schedule.output == output) return schedule;
    known += (known.empty() ? "" : ", ") + schedule.output;
  }
  throw Error("this model has no output '" + output + "': expected one of " + known);
}

std::size_t Plan::weight_bytes() const {
  std::set<const Weight*> seen;
  std::size_t bytes = 0;
  for (const auto& op : program_.ops()) {
    if (op->weight() == nullptr) continue;
    for (const LinearForm& form : op->weight()->forms())
      if (seen.insert(form.weight.get()).second) bytes += form.weight->bytes();
  }
  return bytes;
}

}  // namespace aerogel
