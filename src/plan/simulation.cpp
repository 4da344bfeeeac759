#include "spectrace/plan/simulation.hpp"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <queue>

namespace spectrace {
namespace {

/// What an assignment costs one of those who do it.
struct Share {
  RankLoad load;
  double work_s = 0;              ///< reading and the unembedding aside
  double unembedding_s = 0;       ///< while those after it empty the pipeline
  bool reads_to_the_end = false;  ///< not only in its first round
};

Share share_of(const ModelLoad& model, const Assignment& assignment, int stage, bool is_resident) {
  const int num_stages = assignment.num_ranks;
  const LayerRange range = stage_layers(model.layer_bytes, num_stages)[static_cast<std::size_t>(stage)];
  double bytes = 0, memory = 0, all_bytes = 0;
  for (std::int64_t l = 0; l < static_cast<std::int64_t>(model.layer_bytes.size()); ++l) {
    const auto layer = static_cast<std::size_t>(l);
    all_bytes += model.layer_bytes[layer];
    if (l < range.first || l >= range.last) continue;
    bytes += model.layer_bytes[layer];
    memory += model.layer_memory[layer];
  }
  const double part = all_bytes > 0 ? bytes / all_bytes : 1.0 / num_stages;
  const double stays = memory > 0 ? std::min(1.0, static_cast<double>(model.resident_bytes_limit) / memory) : 1.0;

  Share share;
  RankLoad& load = share.load;
  std::vector<bool> layers(model.layer_bytes.size(), false);
  std::int64_t num_streams = 0, under_way = 0, in_stream = 0;
  int num_parts = 0;  // of the unembedding
  const BatchTotals batches = batch_totals(model.units, assignment.units);
  const std::int64_t most = num_stages == 1 ? batches.num_batches : batches_a_round(batches, num_stages, stays >= 1);
  for (const std::size_t index : assignment.units) {
    const Unit& unit = model.units[index];
    if (unit.kind == UnitKind::prompts) {
      ++load.num_units;
      load.flops += unit.flops * part;
      share.work_s += model.rates.seconds_of(unit) * part;
      load.num_tokens += unit.num_tokens;
      const std::int64_t size = model.bytes_under_way[index];
      if (num_streams == 0 || in_stream == most ||
          (model.hidden_bytes_limit > 0 && under_way + size > model.hidden_bytes_limit)) {
        ++num_streams;
        under_way = in_stream = 0;
      }
      under_way += size;
      load.under_way_bytes += static_cast<double>(size);
      ++in_stream;
    } else if (unit.kind == UnitKind::unembedding) {
      if (num_parts++ % num_stages != stage) continue;
      ++load.num_units;
      load.flops += unit.flops;
      share.unembedding_s += model.rates.seconds_of(unit);
      load.bytes += model.unembedding_bytes / model.num_unembedding_parts;
    } else {
      if (unit.layer < range.first || unit.layer >= range.last) continue;
      ++load.num_units;
      load.flops += unit.flops;
      share.work_s += model.rates.seconds_of(unit);
      layers[static_cast<std::size_t>(unit.layer)] = true;
    }
  }
  if (num_streams > 0) {
    // What stays is read once; nothing of it if it was read for an earlier share.
    const double times = (is_resident ? 1 - stays : 1.0) + static_cast<double>(num_streams - 1) * (1 - stays);
    load.bytes += bytes * times;
    load.num_layers_read = static_cast<std::size_t>(static_cast<double>(range.size()) * times + 0.5);
    share.work_s += model.values_flops * static_cast<double>(range.size()) * times / model.rates.spectra_flops_per_s;
    if (num_streams > 1 || num_stages > 1 || !assignment.is_last) load.resident_bytes = stays * memory;
    share.reads_to_the_end = num_streams > 1 && stays < 1;
  } else {
    for (std::size_t l = 0; l < layers.size(); ++l) {
      if (!layers[l]) continue;
      ++load.num_layers_read;
      load.bytes += model.attention_share * model.layer_bytes[l];
    }
  }
  return share;
}

double collecting_s(const ModelLoad& model, const MachineProfile& profile) {
  return profile.collect_s + model.collect_bytes / profile.collect_bytes_per_s +
         model.join_flops / model.rates.unembedding_flops_per_s;
}

/// How long the pipeline takes beyond its busiest stage: the others' first batch, or the last.
double filling_s(const ModelLoad& model, const Assignment& assignment) {
  if (assignment.num_ranks == 1) return 0;
  double largest = 0;
  for (const std::size_t index : assignment.units)
    if (model.units[index].kind == UnitKind::prompts) largest = std::max(largest, model.units[index].flops);
  const BatchTotals batches = batch_totals(model.units, assignment.units);
  const auto together = static_cast<double>(std::min(batches.num_batches, batches.together()));
  return together * largest / model.rates.prompt_flops_per_s * (assignment.num_ranks - 1) / assignment.num_ranks;
}

void add(RankLoad& sum, const RankLoad& load) {
  sum.num_units += load.num_units;
  sum.num_layers_read += load.num_layers_read;
  sum.num_tokens += load.num_tokens;
  sum.flops += load.flops;
  sum.bytes += load.bytes;
  sum.busy_s += load.busy_s;
  sum.resident_bytes = std::max(sum.resident_bytes, load.resident_bytes);
  sum.under_way_bytes = std::max(sum.under_way_bytes, load.under_way_bytes);
}

/// The file system, whose rate those share who read at the same time.
class FileSystem {
 public:
  explicit FileSystem(double bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  /// So many more begin to read.
  void begin(double now_s, std::size_t num_readers) {
    while (!ends_.empty() && ends_.top() <= now_s) ends_.pop();
    num_readers_ = ends_.size() + num_readers;
  }
  void end_at(double end_s) { ends_.push(end_s); }
  double bytes_per_s(const WorkRates& rates) const {
    return std::min(rates.read_bytes_per_s, bytes_per_s_ / static_cast<double>(std::max<std::size_t>(1, num_readers_)));
  }

 private:
  double bytes_per_s_;
  std::size_t num_readers_ = 0;
  std::priority_queue<double, std::vector<double>, std::greater<>> ends_;
};

}  // namespace

SimulatedSweep simulate_sweep(const std::vector<ModelLoad>& models, int num_ranks, const MachineProfile& profile,
                              bool with_details) {
  const auto count = static_cast<std::size_t>(num_ranks);
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
  std::vector<std::optional<std::size_t>> resident(count);
  FileSystem file_system(profile.file_system_bytes_per_s);
  struct Begun {
    Assignment assignment;
    std::vector<Share> shares;  // of each of those who do it
  };
  std::vector<Begun> begun;  // now
  const auto begin = [&](const Assignment& assignment) {
    Begun& one = begun.emplace_back(Begun{assignment, {}});
    for (int stage = 0; stage < assignment.num_ranks; ++stage) {
      const auto place = static_cast<std::size_t>(assignment.first_rank + stage);
      given[place] = assignment;
      Share& share = one.shares.emplace_back();
      if (assignment.step != Step::work) {
        share.work_s = assignment.step == Step::open ? profile.open_s : collecting_s(models[assignment.model], profile);
        continue;
      }
      share = share_of(models[assignment.model], assignment, stage, resident[place] == assignment.model);
      if (share.load.resident_bytes > 0 && !assignment.is_last) resident[place] = assignment.model;
    }
  };
  // How long what was begun at this moment takes: all of it reads at once.
  const auto set_off = [&] {
    std::size_t num_readers = 0;
    for (const Begun& one : begun)
      for (const Share& share : one.shares) num_readers += share.load.bytes > 0;
    file_system.begin(now, num_readers);
    for (Begun& one : begun) {
      const Assignment& assignment = one.assignment;
      const ModelLoad& model = models[assignment.model];
      const bool is_work = assignment.step == Step::work;
      double longest_s = 0;
      for (std::size_t stage = 0; stage < one.shares.size(); ++stage) {
        Share& share = one.shares[stage];
        // Reading and computing take turns.
        const double read_s = share.load.bytes / file_system.bytes_per_s(model.rates);
        share.load.busy_s = share.work_s + share.unembedding_s + read_s;
        if (read_s > 0) file_system.end_at(now + (share.reads_to_the_end ? share.load.busy_s : read_s));
        // The first stage has its part of the unembedding while the pipeline empties, the others behind it.
        const double behind_s = stage > 0 ? share.unembedding_s : 0;
        const double in_line_s = share.work_s + read_s + behind_s + (is_work ? filling_s(model, assignment) : 0);
        longest_s = std::max({longest_s, share.load.busy_s, in_line_s});
        const auto place = static_cast<std::size_t>(assignment.first_rank) + stage;
        add(sweep.ranks[place], share.load);
        if (!with_details || !is_work) continue;
        add(sweep.of_models[assignment.model][place], share.load);
        auto& units = sweep.units[assignment.model][place];
        if (stage == 0) units.insert(units.end(), assignment.units.begin(), assignment.units.end());
      }
      for (int rank = assignment.first_rank; rank < assignment.first_rank + assignment.num_ranks; ++rank)
        events.emplace(now + longest_s, rank);
    }
    begun.clear();
  };
  const auto hand_out = [&] {
    std::vector<int> still;
    for (std::size_t i = 0; i < idle.size(); ++i) {
      const int rank = idle[i];
      if (scheduler.is_busy(rank)) continue;  // with another of its group
      if (!scheduler.has_work()) {
        still.insert(still.end(), idle.begin() + static_cast<std::ptrdiff_t>(i), idle.end());
        break;
      }
      if (const auto assignment = scheduler.next(rank))
        begin(*assignment);
      else
        still.push_back(rank);
    }
    std::erase_if(still, [&](int rank) { return scheduler.is_busy(rank); });
    idle = std::move(still);
    set_off();
  };
  for (hand_out(); !events.empty(); hand_out()) {
    now = events.top().first;
    while (!events.empty() && events.top().first <= now) {
      const int rank = events.top().second;
      events.pop();
      const Assignment& assignment = given[static_cast<std::size_t>(rank)];
      if (assignment.step == Step::open) {
        std::vector<OpenUnit> units;
        const ModelLoad& model = models[assignment.model];
        const double read_bytes_per_s = profile.read_bytes_per_s_of(model.rates, num_ranks);
        for (std::size_t u = 0; u < model.units.size(); ++u)
          units.push_back({u, model.units[u].flops,
                           group_seconds(model, model.units[u], model.stages, read_bytes_per_s),
                           model.units[u].kind == UnitKind::unembedding});
        scheduler.opened(rank, std::move(units), true, model.stages);
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

double peak_bytes(const MemoryNeed& need, const ModelLoad& load, const RankLoad& rank) {
  double under_way = rank.under_way_bytes;
  if (load.hidden_bytes_limit > 0)
    under_way = std::min(under_way, static_cast<double>(std::max(load.hidden_bytes_limit, need.one_batch)));
  // What a stage works on, what it sends, and what waits before it.
  if (load.stages > 1)
    under_way =
        static_cast<double>(std::min(need.all_batches, 5 * batch_totals(load.units).together() * need.one_batch));
  const double work =
      rank.resident_bytes + static_cast<double>(need.layer + need.workspace + load.in_flight_bytes) + under_way;
  return static_cast<double>(need.libraries) +
         std::max({work, static_cast<double>(need.unembedding), static_cast<double>(need.collecting)});
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
