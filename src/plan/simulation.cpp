#include "spectrace/plan/simulation.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <queue>
#include <utility>

namespace spectrace {
namespace {

/// What an assignment costs one of those who do it.
struct Share {
  RankLoad load;
  double work_s = 0;              ///< reading and the unembedding aside
  double unembedding_s = 0;       ///< while those after it empty the pipeline
  bool reads_to_the_end = false;  ///< not only in its first round
};

/// What the stages of an assignment have in common.
struct Group {
  Group(const ModelLoad& of_model, const Assignment& of_assignment)
      : model(of_model),
        assignment(of_assignment),
        layers(stage_layers(model.layer_costs, assignment.num_ranks)),
        cost(std::accumulate(model.layer_costs.begin(), model.layer_costs.end(), 0.0)),
        batches(batch_totals(model.units, assignment.units)) {}

  const ModelLoad& model;
  const Assignment& assignment;
  const std::vector<LayerRange> layers;  // of each stage
  const double cost;                     // of all layers
  const BatchTotals batches;
};

/// The units of one stage's share, taken up one after the other.
class ShareOfStage {
 public:
  ShareOfStage(const Group& group, int stage)
      : model_(group.model),
        assignment_(group.assignment),
        stage_(stage),
        range_(group.layers[static_cast<std::size_t>(stage)]),
        has_units_(model_.layer_bytes.size(), false) {
    double cost = 0;
    for (auto layer = static_cast<std::size_t>(range_.first); layer < static_cast<std::size_t>(range_.last); ++layer) {
      cost += model_.layer_costs[layer];
      bytes_ += model_.layer_bytes[layer];
      memory_ += model_.layer_memory[layer];
    }
    part_ = group.cost > 0 ? cost / group.cost : 1.0 / num_stages();
    stays_ = memory_ > 0 ? std::min(1.0, static_cast<double>(model_.resident_bytes_limit) / memory_) : 1.0;
    most_in_stream_ = num_stages() == 1 ? group.batches.num_batches
                                        : batches_a_round(group.batches, num_stages(), /*layers_stay=*/stays_ >= 1);
  }

  void add(std::size_t index) {
    const Unit& unit = model_.units[index];
    if (const BatchWork* batch = unit.of_batch())
      add_batch(unit, *batch, model_.bytes_under_way[index]);
    else if (unit.is_undivided())
      add_undivided(unit);
    else
      add_layer(unit, unit.of_layer()->layer);
  }

  /// `is_resident`: what stays of the layers is there already, of an earlier share.
  Share take(bool is_resident) {
    RankLoad& load = share_.load;
    if (num_streams_ == 0) {
      for (std::size_t l = 0; l < has_units_.size(); ++l) {
        if (!has_units_[l]) continue;
        ++load.num_layers_read;
        load.bytes += model_.matrix_share * model_.layer_bytes[l];
      }
      return share_;
    }
    // What stays is read once; nothing of it if it was read for an earlier share.
    const double times = (is_resident ? 1 - stays_ : 1.0) + static_cast<double>(num_streams_ - 1) * (1 - stays_);
    const double layers_read = static_cast<double>(range_.size()) * times;
    load.bytes += bytes_ * times;
    load.num_layers_read = static_cast<std::size_t>(layers_read + 0.5);
    share_.work_s += model_.values_flops * layers_read / model_.rates.spectra_flops_per_s;
    if (num_streams_ > 1 || num_stages() > 1 || !assignment_.is_last) load.resident_bytes = stays_ * memory_;
    share_.reads_to_the_end = num_streams_ > 1 && stays_ < 1;
    return share_;
  }

 private:
  int num_stages() const { return assignment_.num_ranks; }

  void add_batch(const Unit& unit, const BatchWork& batch, std::int64_t bytes) {
    RankLoad& load = share_.load;
    ++load.num_units;
    load.flops += unit.flops * part_;
    share_.work_s += model_.rates.seconds_of(unit) * part_;
    load.num_tokens += batch.num_tokens;
    if (num_streams_ == 0 || in_stream_ == most_in_stream_ ||
        (model_.hidden_bytes_limit > 0 && under_way_ + bytes > model_.hidden_bytes_limit)) {
      ++num_streams_;
      under_way_ = in_stream_ = 0;
    }
    under_way_ += bytes;
    load.under_way_bytes += static_cast<double>(bytes);
    ++in_stream_;
  }
  void add_undivided(const Unit& unit) {
    if (num_parts_++ % num_stages() != stage_) return;
    ++share_.load.num_units;
    share_.load.flops += unit.flops;
    share_.unembedding_s += model_.rates.seconds_of(unit);
    const TensorWork* tensor = unit.of_tensor();
    share_.load.bytes += tensor == nullptr ? model_.unembedding_bytes / model_.num_unembedding_parts
                                           : static_cast<double>(tensor->matrix.size_bytes());
  }
  void add_layer(const Unit& unit, std::int64_t layer) {
    if (layer < range_.first || layer >= range_.last) return;
    ++share_.load.num_units;
    share_.load.flops += unit.flops;
    share_.work_s += model_.rates.seconds_of(unit);
    has_units_[static_cast<std::size_t>(layer)] = true;
  }

  const ModelLoad& model_;
  const Assignment& assignment_;
  const int stage_;
  const LayerRange range_;
  double bytes_ = 0, memory_ = 0;  // of the stage's layers
  double part_ = 1, stays_ = 1;    // of all layers the stage's; of these, what stays in memory
  std::int64_t most_in_stream_ = 0;
  std::int64_t num_streams_ = 0, under_way_ = 0, in_stream_ = 0;
  int num_parts_ = 0;            // that lie in no layer
  std::vector<bool> has_units_;  // by layer
  Share share_;
};

Share share_of(const Group& group, int stage, bool is_resident) {
  ShareOfStage share(group, stage);
  for (const std::size_t unit : group.assignment.units) share.add(unit);
  return share.take(is_resident);
}

constexpr double kReducedAtOnce = 16 << 20;  // bytes

/// What adding the ranks' sums up takes, along a tree: each of its steps costs a message, and the bytes go up in a
/// pipeline of pieces.
double reducing_s(const ModelLoad& model, int num_ranks, const MachineProfile& profile) {
  if (num_ranks == 1 || model.sums_bytes == 0) return 0;
  const double steps = std::ceil(std::log2(num_ranks)), pieces = std::ceil(model.sums_bytes / kReducedAtOnce);
  // Ranges, units, then the pieces.
  return (2 + pieces) * steps * profile.message_s + 2 * model.sums_bytes / profile.network_bytes_per_s;
}

double collecting_s(const ModelLoad& model, int num_ranks, const MachineProfile& profile) {
  return profile.collect_s + reducing_s(model, num_ranks, profile) + model.collect_bytes / profile.collect_bytes_per_s +
         model.join_flops / model.rates.unembedding_flops_per_s;
}

/// How long the pipeline takes beyond its busiest stage: the others' first batch, or the last.
double filling_s(const Group& group) {
  const int num_ranks = group.assignment.num_ranks;
  if (num_ranks == 1) return 0;
  double largest = 0;
  for (const std::size_t index : group.assignment.units) {
    const Unit& unit = group.model.units[index];
    if (unit.of_batch() != nullptr) largest = std::max(largest, unit.flops);
  }
  const auto together = static_cast<double>(std::min(group.batches.num_batches, group.batches.together()));
  return together * largest / group.model.rates.prompt_flops_per_s * (num_ranks - 1) / num_ranks;
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

/// The sweep in simulated time: assignments begin and end, whoever has none asks the scheduler.
class Simulation {
 public:
  Simulation(const std::vector<ModelLoad>& models, int num_ranks, const MachineProfile& profile, bool with_details)
      : models_(models),
        num_ranks_(num_ranks),
        profile_(profile),
        with_details_(with_details),
        scheduler_(models.size(), num_ranks),
        given_(static_cast<std::size_t>(num_ranks)),
        resident_(given_.size()),
        idle_(given_.size()),
        file_system_(profile.file_system_bytes_per_s) {
    std::iota(idle_.begin(), idle_.end(), 0);
    sweep_.ranks.resize(given_.size());
    if (!with_details) return;
    sweep_.of_models.assign(models.size(), std::vector<RankLoad>(given_.size()));
    sweep_.units.assign(models.size(), std::vector<std::vector<std::size_t>>(given_.size()));
  }

  SimulatedSweep run() {
    for (hand_out(); !events_.empty(); hand_out()) {
      now_s_ = events_.top().first;
      while (!events_.empty() && events_.top().first <= now_s_) {
        const int rank = events_.top().second;
        events_.pop();
        end(rank);
        idle_.push_back(rank);
      }
      std::sort(idle_.begin(), idle_.end());
    }
    sweep_.makespan_s = now_s_;
    double busy_s = 0;
    for (const auto& rank : sweep_.ranks) busy_s += rank.busy_s;
    if (now_s_ > 0) sweep_.efficiency = busy_s / (now_s_ * static_cast<double>(num_ranks_));
    return std::move(sweep_);
  }

 private:
  struct Begun {
    Assignment assignment;
    std::vector<Share> shares = {};  // of each of those who do it
    double filling_s = 0;
  };
  /// What a rank was last told to do.
  struct Given {
    Step step = Step::open;
    std::size_t model = 0;
  };
  using Event = std::pair<double, int>;  // when which rank is free again

  void hand_out() {
    std::vector<int> still;
    for (std::size_t i = 0; i < idle_.size(); ++i) {
      const int rank = idle_[i];
      if (scheduler_.is_busy(rank)) continue;  // with another of its group
      if (!scheduler_.has_work()) {
        still.insert(still.end(), idle_.begin() + static_cast<std::ptrdiff_t>(i), idle_.end());
        break;
      }
      if (auto assignment = scheduler_.next(rank))
        begin(std::move(*assignment));
      else
        still.push_back(rank);
    }
    std::erase_if(still, [&](int rank) { return scheduler_.is_busy(rank); });
    idle_ = std::move(still);
    set_off();
  }

  void begin(Assignment given) {
    Begun& begun = begun_.emplace_back(Begun{.assignment = std::move(given)});
    const Assignment& assignment = begun.assignment;
    const ModelLoad& model = models_[assignment.model];
    for (int rank = assignment.first_rank; rank < assignment.first_rank + assignment.num_ranks; ++rank)
      given_[static_cast<std::size_t>(rank)] = {assignment.step, assignment.model};
    if (assignment.step != Step::work) {
      begun.shares.emplace_back().work_s =
          assignment.step == Step::open ? profile_.open_s : collecting_s(model, num_ranks_, profile_);
      return;
    }
    const Group group(model, assignment);
    begun.filling_s = filling_s(group);
    for (int stage = 0; stage < assignment.num_ranks; ++stage) {
      auto& resident = resident_[static_cast<std::size_t>(assignment.first_rank + stage)];
      const Share& share = begun.shares.emplace_back(share_of(group, stage, resident == assignment.model));
      if (share.load.resident_bytes > 0 && !assignment.is_last) resident = assignment.model;
    }
  }

  /// How long what was begun at this moment takes: all of it reads at once.
  void set_off() {
    std::size_t num_readers = 0;
    for (const Begun& begun : begun_)
      for (const Share& share : begun.shares) num_readers += share.load.bytes > 0;
    file_system_.begin(now_s_, num_readers);
    for (Begun& begun : begun_) {
      const Assignment& assignment = begun.assignment;
      double longest_s = 0;
      for (std::size_t stage = 0; stage < begun.shares.size(); ++stage)
        longest_s = std::max(longest_s, seconds_of(begun, stage));
      for (int rank = assignment.first_rank; rank < assignment.first_rank + assignment.num_ranks; ++rank)
        events_.emplace(now_s_ + longest_s, rank);
    }
    begun_.clear();
  }

  double seconds_of(Begun& begun, std::size_t stage) {
    const Assignment& assignment = begun.assignment;
    Share& share = begun.shares[stage];
    const ModelLoad& model = models_[assignment.model];
    const bool is_work = assignment.step == Step::work;
    // Reading and computing take turns.
    const double read_s = share.load.bytes / file_system_.bytes_per_s(model.rates);
    share.load.busy_s = share.work_s + share.unembedding_s + read_s;
    if (read_s > 0) file_system_.end_at(now_s_ + (share.reads_to_the_end ? share.load.busy_s : read_s));
    // The first stage has its part of the unembedding while the pipeline empties, the others behind it.
    const double behind_s = stage > 0 ? share.unembedding_s : 0;
    const double in_line_s = share.work_s + read_s + behind_s + begun.filling_s;
    const auto place = static_cast<std::size_t>(assignment.first_rank) + stage;
    add(sweep_.ranks[place], share.load);
    if (with_details_ && is_work) {
      add(sweep_.of_models[assignment.model][place], share.load);
      auto& units = sweep_.units[assignment.model][place];
      if (stage == 0) units.insert(units.end(), assignment.units.begin(), assignment.units.end());
    }
    return std::max(share.load.busy_s, in_line_s);
  }

  void end(int rank) {
    const Given given = given_[static_cast<std::size_t>(rank)];
    if (given.step == Step::work) return scheduler_.worked(rank);
    if (given.step == Step::collect) return scheduler_.collected(rank);
    std::vector<OpenUnit> units;
    const ModelLoad& model = models_[given.model];
    const double read_bytes_per_s = profile_.read_bytes_per_s_of(model.rates, num_ranks_);
    for (std::size_t u = 0; u < model.units.size(); ++u)
      units.push_back({.unit = u,
                       .flops = model.units[u].flops,
                       .seconds = group_seconds(model, model.units[u], model.stages, read_bytes_per_s),
                       .is_undivided = model.units[u].is_undivided()});
    scheduler_.opened(rank, std::move(units), true, model.stages);
  }

  const std::vector<ModelLoad>& models_;
  const int num_ranks_;
  const MachineProfile& profile_;
  const bool with_details_;
  SimulatedSweep sweep_;
  Scheduler scheduler_;
  std::vector<Given> given_;
  std::vector<std::optional<std::size_t>> resident_;
  std::vector<int> idle_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::vector<Begun> begun_;  // now
  FileSystem file_system_;
  double now_s_ = 0;
};

}  // namespace

SimulatedSweep simulate_sweep(const std::vector<ModelLoad>& models, int num_ranks, const MachineProfile& profile,
                              bool with_details) {
  return Simulation(models, num_ranks, profile, with_details).run();
}

double peak_bytes(const MemoryNeed& need, const ModelLoad& load, const RankLoad& rank) {
  double under_way = rank.under_way_bytes;
  if (load.hidden_bytes_limit > 0)
    under_way = std::min(under_way, static_cast<double>(std::max(load.hidden_bytes_limit, need.one_batch)));
  // What a stage works on, what it sends, and what waits before it.
  if (load.stages > 1)
    under_way =
        static_cast<double>(std::min(need.all_batches, 5 * batch_totals(load.units).together() * need.one_batch));
  const std::int64_t sums = rank.under_way_bytes > 0 ? need.sums : 0;
  const double work =
      rank.resident_bytes + static_cast<double>(need.layer + need.workspace + load.in_flight_bytes + sums) + under_way;
  return static_cast<double>(need.libraries) +
         std::max({work, static_cast<double>(need.unembedding), static_cast<double>(load.tensors_in_flight_bytes),
                   static_cast<double>(need.collecting)});
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
