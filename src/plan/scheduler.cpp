#include "spectrace/plan/scheduler.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Ranks that each of the models gets, rounded up.
std::size_t for_each(std::size_t num_ranks, std::size_t num_models) {
  return (num_ranks + num_models - 1) / num_models;
}

}  // namespace

const char* name(Step step) {
  switch (step) {
    case Step::open: return "open";
    case Step::work: return "work";
    case Step::collect: return "collect";
  }
  return "?";
}

Scheduler::Scheduler(std::size_t num_models, int num_ranks)
    : models_(num_models), ranks_(static_cast<std::size_t>(num_ranks)), num_unknown_(num_models) {
  SPECTRACE_ASSERT(num_ranks >= 1);
}

std::optional<Assignment> Scheduler::next(int rank) {
  SPECTRACE_ASSERT(!is_busy(rank));
  const auto last = ranks_[static_cast<std::size_t>(rank)].model;
  const auto find = [&](State state) -> std::optional<std::size_t> {
    if (last && models_[*last].state == state) return last;
    const auto found =
        std::find_if(models_.begin(), models_.end(), [&](const Model& model) { return model.state == state; });
    if (found == models_.end()) return std::nullopt;
    return static_cast<std::size_t>(found - models_.begin());
  };
  if (const auto model = find(State::ready)) return give(rank, Step::collect, *model);
  if (last && can_share(rank, models_[*last])) return give_share(rank, *last);
  if (const auto model = find(State::unopened)) return give(rank, Step::open, *model);

  std::optional<std::size_t> best;
  double most_s = -1;
  for (std::size_t m = 0; m < models_.size(); ++m) {
    if (!can_share(rank, models_[m])) continue;
    const double for_each_s = models_[m].left_s / (1.0 + models_[m].num_ranks);
    if (for_each_s > most_s) {
      most_s = for_each_s;
      best = m;
    }
  }
  if (best) return give_share(rank, *best);
  if (const auto found =
          std::find_if(models_.begin(), models_.end(),
                       [](const Model& model) { return model.state == State::working && !model.undivided.empty(); });
      found != models_.end())
    return give_undivided(rank, static_cast<std::size_t>(found - models_.begin()));
  return std::nullopt;
}

bool Scheduler::are_shared() const { return ranks_.size() > 1 && num_unknown_ < ranks_.size(); }

Scheduler::Group Scheduler::group_of(int rank, const Model& model) const {
  const int first = rank / model.stages * model.stages;
  return {first, std::min(model.stages, static_cast<int>(ranks_.size()) - first)};
}

bool Scheduler::can_share(int rank, const Model& model) const {
  if (model.state != State::working || model.left.empty()) return false;
  const Group group = group_of(rank, model);
  // A share that is cut before it is known among how many models would be read by every group that is free.
  if (group.count > 1 && are_shared() && num_unknown_ > 0) return false;
  for (int member = group.first; member < group.first + group.count; ++member)
    if (is_busy(member)) return false;
  return true;
}

Assignment Scheduler::give(int rank, Step step, std::size_t model) {
  models_[model].state = step == Step::open ? State::opening : State::collecting;
  return hand_out({step, model, {}, rank, 1, false});
}

Assignment Scheduler::hand_out(Assignment assignment) {
  for (int member = assignment.first_rank; member < assignment.first_rank + assignment.num_ranks; ++member) {
    Rank& to = ranks_[static_cast<std::size_t>(member)];
    to.model = assignment.model;
    to.current = assignment;
  }
  return assignment;
}

Assignment Scheduler::give_share(int rank, std::size_t index) {
  Model& model = models_[index];
  std::size_t num_open = 0, num_elsewhere = 0;
  for (const auto& other : models_) {
    const bool is_shared = other.state == State::working && !other.left.empty();
    num_open += is_shared;
    if (!is_shared) num_elsewhere += static_cast<std::size_t>(other.num_ranks);
  }
  const Group group = group_of(rank, model);
  double share_s = model.left_s;
  if (are_shared()) {
    if (group.count > 1) {
      // Those that are at work where nothing is left come late, if at all.
      const double num_groups = groups_of_each(ranks_.size() - num_elsewhere, num_open, group.count);
      share_s /= std::max(1.0, num_groups - model.num_ranks / group.count);
    } else {
      // Ranks that will want a part of this model, those among them that have one already.
      const std::size_t takers =
          std::max(for_each(ranks_.size(), num_open), static_cast<std::size_t>(model.num_ranks) + 1);
      share_s /= 2.0 * static_cast<double>(takers);
    }
  }
  Assignment assignment{Step::work, index, {}, group.first, group.count, false};
  double taken_s = 0;
  while (!model.left.empty() &&
         (assignment.units.empty() || taken_s + model.left.back().seconds <= share_s * (1 + 1e-9))) {
    taken_s += model.left.back().seconds;
    assignment.units.push_back(model.left.back().unit);
    model.left.pop_back();
  }
  model.left_s = model.left.empty() ? 0 : std::max(0.0, model.left_s - taken_s);
  std::sort(assignment.units.begin(), assignment.units.end());
  assignment.is_last = !has_left(model);
  model.num_ranks += group.count;
  return hand_out(std::move(assignment));
}

Assignment Scheduler::give_undivided(int rank, std::size_t index) {
  Model& model = models_[index];
  Assignment assignment{Step::work, index, {model.undivided.back().unit}, rank, 1, false};
  model.undivided.pop_back();
  assignment.is_last = !has_left(model);
  ++model.num_ranks;
  return hand_out(std::move(assignment));
}

Assignment Scheduler::take_back(int rank, Step expected) {
  auto& current = ranks_[static_cast<std::size_t>(rank)].current;
  SPECTRACE_ASSERT(current && current->step == expected);
  static_cast<void>(expected);
  Assignment done = std::move(*current);
  current.reset();
  return done;
}

void Scheduler::add_units(Model& model, std::vector<OpenUnit> units) {
  for (const auto& unit : units) {
    model.left_s += unit.seconds;
    known_flops_ += unit.flops;
  }
  model.left = std::move(units);
  // Of equal ones the first comes first.
  std::sort(model.left.begin(), model.left.end(), [](const OpenUnit& a, const OpenUnit& b) {
    return a.seconds != b.seconds ? a.seconds < b.seconds : a.unit > b.unit;
  });
  set_undivided_apart(model);
  model.state = has_left(model) ? State::working : State::ready;
}

double Scheduler::groups_of_each(std::size_t num_ranks, std::size_t num_models, int stages) {
  return std::round(static_cast<double>(for_each(num_ranks, num_models)) / stages);
}

void Scheduler::set_undivided_apart(Model& model) {
  if (model.stages == 1) return;
  const auto is_undivided = [](const OpenUnit& unit) { return unit.is_undivided; };
  double undivided_s = 0;  // of a group's ranks, some of which wait where there are fewer of these
  int count = 0;
  for (const auto& unit : model.left)
    if (unit.is_undivided) {
      undivided_s += unit.seconds;
      ++count;
    }
  const double num_groups = std::max(1.0, groups_of_each(ranks_.size(), models_.size(), model.stages));
  const auto num_models = static_cast<double>(models_.size());
  const double num_spare = static_cast<double>(ranks_.size()) - num_models * num_groups * model.stages;
  const double share_s = (model.left_s - undivided_s) / num_groups;
  if (undivided_s == 0 || num_spare * share_s < num_models * undivided_s * std::min(count, model.stages) / model.stages)
    return;
  std::copy_if(model.left.begin(), model.left.end(), std::back_inserter(model.undivided), is_undivided);
  std::erase_if(model.left, is_undivided);
  model.left_s -= undivided_s;
}

void Scheduler::opened(int rank, std::vector<OpenUnit> units, bool needs_collecting, int stages) {
  SPECTRACE_ASSERT(stages >= 1);
  Model& model = models_[take_back(rank, Step::open).model];
  --num_unknown_;
  model.stages = std::min(stages, static_cast<int>(ranks_.size()));
  SPECTRACE_ASSERT(needs_collecting || units.empty());
  add_units(model, std::move(units));
  if (!needs_collecting) model.state = State::finished;
}

void Scheduler::worked(int rank) {
  Model& model = models_[take_back(rank, Step::work).model];
  --model.num_ranks;
  if (!has_left(model) && model.num_ranks == 0) model.state = model.is_given_up ? State::finished : State::ready;
}

void Scheduler::gave_up(int rank) {
  const auto& current = ranks_[static_cast<std::size_t>(rank)].current;
  SPECTRACE_ASSERT(current && current->step == Step::work);
  Model& model = models_[current->model];
  model.is_given_up = true;
  model.left.clear();
  model.undivided.clear();
  model.left_s = 0;
  worked(rank);
}

void Scheduler::collected(int rank, std::vector<OpenUnit> again) {
  Model& model = models_[take_back(rank, Step::collect).model];
  if (again.empty())
    model.state = State::finished;
  else
    add_units(model, std::move(again));
}

bool Scheduler::has_work() const {
  return std::any_of(models_.begin(), models_.end(), [&](const Model& m) {
    return m.state == State::unopened || m.state == State::ready || (m.state == State::working && has_left(m));
  });
}

bool Scheduler::all_done() const { return num_finished() == models_.size(); }

std::size_t Scheduler::num_finished() const {
  return static_cast<std::size_t>(
      std::count_if(models_.begin(), models_.end(), [](const Model& m) { return m.state == State::finished; }));
}

}  // namespace spectrace
