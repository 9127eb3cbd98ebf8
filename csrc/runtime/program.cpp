#include "runtime/program.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace aerogel {

const Value& Program::value(const std::string& name, int x) const {
  if (x < 0 || x >= static_cast<int>(ops_.size()))
    throw ShapeError(name + ": there is no value " + std::to_string(x) + " in this program");
  return ops_[x]->result();
}

int Program::append(std::shared_ptr<const Op> op) {
  // What the planner relies on.
  const std::size_t inputs = op->inputs().size();
  if ((op->is_sum() && inputs != 2) || ((op->absorbs_sum() || op->in_place()) && inputs != 1) || (op->reads_codes() && inputs == 0))
    throw Error(op->name() + ": an op of kind " + op->kind() + " cannot have " + std::to_string(inputs) + " inputs");
  if (op->max_positions() != 0) set_max_positions(op->max_positions());
  if (const auto shape = op->kv_cache()) kv_caches_.push_back(*shape);
  ops_.push_back(std::move(op));
  return static_cast<int>(ops_.size()) - 1;
}

void Program::output(const std::string& name, int x) {
  value("output " + name, x);
  for (const Output& known : outputs_)
    if (known.name == name) throw Error("output '" + name + "' is declared twice");
  outputs_.push_back({name, x});
}

void Program::set_max_positions(std::int64_t limit) {
  if (limit < 1) throw ShapeError("max_positions: expected at least 1, got " + std::to_string(limit));
  max_positions_ = max_positions_ == 0 ? limit : std::min(max_positions_, limit);
}

}  // namespace aerogel
