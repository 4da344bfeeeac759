#include "spectrace/plan/simulation.hpp"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>

namespace spectrace {
namespace {

/// What an assignment costs.
RankLoad load_of(const ModelLoad& model, const std::vector<std::size_t>& units, const MachineProfile& profile,
                 double read_bytes_per_s) {
  RankLoad load;
  load.num_units = units.size();
  double compute_s = 0;
  std::vector<bool> layers(model.layer_bytes.size(), false);
  std::int64_t num_streams = 0, under_way = 0;
  for (const std::size_t index : units) {
    const Unit& unit = model.units[index];
    load.flops += unit.flops;
    if (unit.kind == UnitKind::prompts) {
      compute_s += unit.flops / profile.prompt_flops_per_s;
      load.num_tokens += unit.num_tokens;
      const std::int64_t bytes = model.bytes_under_way[index];
      if (num_streams == 0 || (model.hidden_bytes_limit > 0 && under_way + bytes > model.hidden_bytes_limit)) {
        ++num_streams;
        under_way = 0;
      }
      under_way += bytes;
    } else if (unit.kind == UnitKind::unembedding) {
      compute_s += unit.flops / profile.unembedding_flops_per_s;
      load.bytes += model.unembedding_bytes;
    } else {
      compute_s += unit.flops / profile.spectra_flops_per_s;
      layers[static_cast<std::size_t>(unit.layer)] = true;
    }
  }
  for (std::size_t l = 0; l < layers.size(); ++l) {
    if (num_streams > 0) {
      load.num_layers_read += static_cast<std::size_t>(num_streams);
      load.bytes += static_cast<double>(num_streams) * model.layer_bytes[l];
    } else if (layers[l]) {
      ++load.num_layers_read;
      load.bytes += model.attention_share * model.layer_bytes[l];
    }
  }
  // Reading and computing take turns.
  load.busy_s = compute_s + load.bytes / read_bytes_per_s;
  return load;
}

void add(RankLoad& sum, const RankLoad& load) {
  sum.num_units += load.num_units;
  sum.num_layers_read += load.num_layers_read;
  sum.num_tokens += load.num_tokens;
  sum.flops += load.flops;
  sum.bytes += load.bytes;
  sum.busy_s += load.busy_s;
}

}  // namespace

SimulatedSweep simulate_sweep(const std::vector<ModelLoad>& models, int num_ranks, const MachineProfile& profile,
                              bool with_details) {
  const auto count = static_cast<std::size_t>(num_ranks);
  const double read_bytes_per_s =
      std::min(profile.read_bytes_per_s, profile.file_system_bytes_per_s / static_cast<double>(num_ranks));
  SimulatedSweep sweep;
  sweep.ranks.resize(count);
  if (with_details) {
    sweep.of_models.assign(models.size(), std::vector<RankLoad>(count));
    sweep.units.assign(models.size(), std::vector<std::vector<std::size_t>>(count));
  }
  Scheduler scheduler(models.size(), num_ranks);
  using Event = std::pair<double, int>;  // when which rank is free again
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
  std::vector<Assignment> given(count);
  std::vector<int> idle(count);
  std::iota(idle.begin(), idle.end(), 0);
  double now = 0;
  const auto hand_out = [&] {
    std::vector<int> still;
    for (std::size_t i = 0; i < idle.size(); ++i) {
      const int rank = idle[i];
      auto assignment = scheduler.next(rank);
      if (!assignment) {
        // What one rank does not get, no other gets: all that is left to decide is the same for them.
        still.insert(still.end(), idle.begin() + static_cast<std::ptrdiff_t>(i), idle.end());
        break;
      }
      const auto place = static_cast<std::size_t>(rank);
      RankLoad load;
      if (assignment->step == Step::work) {
        load = load_of(models[assignment->model], assignment->units, profile, read_bytes_per_s);
        if (with_details) {
          add(sweep.of_models[assignment->model][place], load);
          auto& units = sweep.units[assignment->model][place];
          units.insert(units.end(), assignment->units.begin(), assignment->units.end());
        }
      } else {
        load.busy_s = assignment->step == Step::open ? profile.open_s : profile.collect_s;
      }
      add(sweep.ranks[place], load);
      events.emplace(now + load.busy_s, rank);
      given[place] = std::move(*assignment);
    }
    idle = std::move(still);
  };
  for (hand_out(); !events.empty(); hand_out()) {
    now = events.top().first;
    while (!events.empty() && events.top().first <= now) {
      const int rank = events.top().second;
      events.pop();
      const Assignment& assignment = given[static_cast<std::size_t>(rank)];
      if (assignment.step == Step::open) {
        std::vector<OpenUnit> units;
        const auto& all = models[assignment.model].units;
        for (std::size_t u = 0; u < all.size(); ++u) units.push_back({u, all[u].flops});
        scheduler.opened(rank, std::move(units), true);
      } else if (assignment.step == Step::work) {
        scheduler.worked(rank);
      } else {
        scheduler.collected(rank);
      }
      idle.push_back(rank);
    }
    std::sort(idle.begin(), idle.end());
  }
  sweep.makespan_s = now;
  double busy = 0;
  for (const auto& rank : sweep.ranks) busy += rank.busy_s;
  if (now > 0) sweep.efficiency = busy / (now * static_cast<double>(num_ranks));
  return sweep;
}

int sensible_number_of_ranks(const std::vector<ModelLoad>& models, const MachineProfile& profile, double efficiency) {
  int best = 1;
  for (int ranks = 2, step = 1; ranks <= 4096;) {
    if (simulate_sweep(models, ranks, profile).efficiency < efficiency) break;
    best = ranks;
    // 2, 3, 4, 6, 8, 12, 16, 24, …
    if ((ranks & (ranks - 1)) == 0) step = ranks / 2;
    ranks += std::max(1, step);
  }
  return best;
}

}  // namespace spectrace
