#include "runtime/plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/cpus.h"
#include "base/error.h"

namespace aerogel {

const char* step_name(StepKind kind) {
  switch (kind) {
    case StepKind::embed: return "embed";
    case StepKind::layer_norm: return "layer_norm";
    case StepKind::rms_norm: return "rms_norm";
    case StepKind::linear: return "linear";
    case StepKind::add: return "add";
    case StepKind::activation: return "activation";
    case StepKind::quantize: return "quantize";
    case StepKind::rope: return "rope";
    case StepKind::attention: return "attention";
    case StepKind::select_last: return "select_last";
    case StepKind::pool: return "pool";
    case StepKind::l2_normalize: return "l2_normalize";
  }
  return "?";
}

namespace {

StepKind step_of(OpKind kind) {
  switch (kind) {
    case OpKind::embed: return StepKind::embed;
    case OpKind::layer_norm: return StepKind::layer_norm;
    case OpKind::rms_norm: return StepKind::rms_norm;
    case OpKind::linear: return StepKind::linear;
    case OpKind::add: return StepKind::add;
    case OpKind::activation: return StepKind::activation;
    case OpKind::rope: return StepKind::rope;
    case OpKind::attention: return StepKind::attention;
    case OpKind::select_last: return StepKind::select_last;
    case OpKind::pool: return StepKind::pool;
    case OpKind::l2_normalize: return StepKind::l2_normalize;
  }
  throw Error("an op without a step");
}

bool is_norm(OpKind kind) { return kind == OpKind::layer_norm || kind == OpKind::rms_norm; }
// A linear that reads codes; one that splits its input in terms makes them itself.
bool takes_codes(const Op& op) { return op.kind == OpKind::linear && op.linear.quantized_x() && op.terms == 1; }
bool writes_codes(OpKind kind) { return is_norm(kind) || kind == OpKind::activation; }

// Two passes: steps over virtual buffers first, then buffers onto slots.
class Scheduler {
 public:
  Scheduler(const Program& program, const Program::Output& output) : program_(program), output_(output) {}

  Schedule build() {
    mark_needed(output_.value);
    const int count = static_cast<int>(program_.ops().size());
    consumers_.resize(count);
    for (int i = 0; i < count; ++i) {
      if (!needed_[i]) continue;
      const Op& op = program_.ops()[i];
      if (op.x >= 0) consumers_[op.x].push_back(i);
      if (op.y >= 0) consumers_[op.y].push_back(i);
    }
    choose_fusions();
    floats_.assign(count, -1);
    codes_.assign(count, {});
    for (int i = 0; i < count; ++i)
      if (needed_[i] && fused_into_[i] < 0) emit(i);
    schedule_.output = output_.name;
    schedule_.result_width = program_.values()[output_.value].width;
    schedule_.result_rows = program_.values()[output_.value].rows;
    assign_slots();
    return std::move(schedule_);
  }

 private:
  const Op& op(int value) const { return program_.ops()[value]; }

  void mark_needed(int value) {
    if (needed_.empty()) needed_.assign(program_.ops().size(), false);
    if (value < 0 || needed_[value]) return;
    needed_[value] = true;
    mark_needed(op(value).x);
    mark_needed(op(value).y);
  }

  // A sum is added inside a norm if that norm is its first reader.
  void choose_fusions() {
    fused_into_.assign(program_.ops().size(), -1);
    for (int i = 0; i < static_cast<int>(program_.ops().size()); ++i) {
      if (!needed_[i] || op(i).kind != OpKind::add || consumers_[i].empty()) continue;
      const int first = consumers_[i].front();
      if (is_norm(op(first).kind)) fused_into_[i] = first;
    }
  }

  // The limits of the codes that linears read, 0 among them for those of each row's own.
  std::set<float> limits(int value) const {
    std::set<float> found;
    for (int reader : consumers_[value])
      if (takes_codes(op(reader))) found.insert(op(reader).limit);
    return found;
  }

  // Whether somebody reads the floats, `except` aside: codes with a limit are made from them.
  bool read_as_floats(int value, int except = -1) const {
    if (value == output_.value) return true;
    for (int reader : consumers_[value])
      if (reader != except && !(takes_codes(op(reader)) && op(reader).limit == 0)) return true;
    return false;
  }

  int new_buffer(std::int64_t row_bytes) {
    buffers_.push_back({row_bytes, static_cast<int>(schedule_.steps.size()), -1});
    return static_cast<int>(buffers_.size()) - 1;
  }
  int new_floats(int value) {
    return floats_[value] = new_buffer(program_.values()[value].width * static_cast<std::int64_t>(sizeof(float)));
  }
  int new_codes(int value, float limit) {
    return codes_[value][limit] = new_buffer(codes_ld(program_.values()[value].width) + static_cast<std::int64_t>(sizeof(float)));
  }

  void emit(int i) {
    const Op& o = op(i);
    const Value& value = program_.values()[i];
    Step step{step_of(o.kind), &o, value.width, value.rows};
    if (o.kind == OpKind::attention && o.causal) schedule_.uses_attention_cache = true;

    if (o.x >= 0 && fused_into_[o.x] == i) {
      const Op& sum = op(o.x);
      step.x = floats_[sum.x];
      step.residual = floats_[sum.y];
      if (read_as_floats(o.x, i) || !limits(o.x).empty()) step.sum = new_floats(o.x);
    } else if (takes_codes(o)) {
      step.xq = codes_[o.x].at(o.limit);
    } else if (o.x >= 0) {
      step.x = floats_[o.x];
    }
    if (o.y >= 0) step.residual = floats_[o.y];

    std::set<float> wanted = limits(i);
    const bool writes = writes_codes(o.kind) && wanted.erase(0.0f) != 0;  // codes of each row's own limit, along with the floats
    if (o.kind == OpKind::rope && consumers_[o.x].size() == 1 && o.x != output_.value) {
      step.y = floats_[i] = step.x;  // in place: nobody else reads the input
    } else if (!writes || read_as_floats(i)) {
      step.y = new_floats(i);
    }
    if (writes) step.yq = new_codes(i, 0.0f);
    push(step);

    // A fused sum that a quantized linear reads, and every other result that one reads, is quantized right away.
    if (o.x >= 0 && fused_into_[o.x] == i)
      for (float limit : limits(o.x)) push_quantize(o.x, limit);
    for (float limit : wanted) push_quantize(i, limit);
  }

  void push_quantize(int value, float limit) {
    Step step{StepKind::quantize, &op(value), program_.values()[value].width, program_.values()[value].rows};
    step.x = floats_[value];
    step.yq = new_codes(value, limit);
    step.limit = limit;
    push(step);
  }

  void push(const Step& step) {
    const int index = static_cast<int>(schedule_.steps.size());
    for (int buffer : {step.x, step.xq, step.residual, step.sum, step.y, step.yq})
      if (buffer >= 0) buffers_[buffer].last = index;
    schedule_.steps.push_back(step);
  }

  // Linear scan: a slot is free again after the last step that touches its buffer. The result's slot is its own.
  void assign_slots() {
    const int result = floats_[output_.value];
    std::vector<int> slot_of(buffers_.size(), -1);
    std::vector<std::int64_t>& slots = schedule_.slot_row_bytes;
    std::set<int> free;
    schedule_.result = 0;
    slots.push_back(buffers_[result].row_bytes);
    slot_of[result] = 0;
    std::size_t next = 0;
    for (int index = 0; index < static_cast<int>(schedule_.steps.size()); ++index) {
      for (; next < buffers_.size() && buffers_[next].first <= index; ++next) {
        if (slot_of[next] >= 0) continue;
        // The smallest free slot that is large enough, else the largest one, grown.
        int best = -1;
        for (int slot : free) {
          if (best < 0) {
            best = slot;
            continue;
          }
          const bool fits = slots[slot] >= buffers_[next].row_bytes, best_fits = slots[best] >= buffers_[next].row_bytes;
          if (fits != best_fits ? fits : fits ? slots[slot] < slots[best] : slots[slot] > slots[best]) best = slot;
        }
        if (best < 0) {
          best = static_cast<int>(slots.size());
          slots.push_back(0);
        }
        free.erase(best);
        slots[best] = std::max(slots[best], buffers_[next].row_bytes);
        slot_of[next] = best;
      }
      for (std::size_t buffer = 0; buffer < buffers_.size(); ++buffer)
        if (buffers_[buffer].last == index && slot_of[buffer] > 0) free.insert(slot_of[buffer]);
    }
    for (Step& step : schedule_.steps)
      for (int* buffer : {&step.x, &step.xq, &step.residual, &step.sum, &step.y, &step.yq})
        if (*buffer >= 0) *buffer = slot_of[*buffer];
  }

  struct Buffer {
    std::int64_t row_bytes;
    int first, last;  // steps
  };

  const Program& program_;
  const Program::Output& output_;
  std::vector<bool> needed_;
  std::vector<std::vector<int>> consumers_;
  std::vector<int> fused_into_;  // of a sum: the norm it is added in
  std::vector<int> floats_;
  std::vector<std::map<float, int>> codes_;  // by limit
  std::vector<Buffer> buffers_;
  Schedule schedule_;
};

}  // namespace

Plan::Plan(Program program, int threads, Isa isa)
    : program_(std::move(program)),
      ops_(ops_for(isa)),
      team_(std::make_unique<Team>(threads == 0 ? default_threads() : threads)) {
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
  for (const Op& op : program_.ops())
    for (const LinearForm& form : op.linear.forms())
      if (seen.insert(form.weight.get()).second) bytes += form.weight->bytes();
  return bytes;
}

}  // namespace aerogel
