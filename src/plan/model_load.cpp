#include "spectrace/plan/model_load.hpp"

#include <algorithm>
#include <numeric>

#include "spectrace/model/forward.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/model/layer_weights.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/plan/memory.hpp"

namespace spectrace {
namespace {

/// Pieces of the pipeline's length in rounds, where layers do not stay: it is three quarters full in the mean.
constexpr std::int64_t kRoundsPerStage = 4;

double element_bytes(const OpenModel& model) {
  const TensorSource* matrix = first_matrix(model.description);
  if (matrix == nullptr) return 0;  // of no family
  const TensorInfo* info = model.store.find(matrix->tensor);
  return info == nullptr ? 4.0 : static_cast<double>(element_size_bytes(info->type));
}

/// Seconds of a group of `stages` ranks for its share of the model's batches.
double group_s(const ModelLoad& load, int stages, int num_ranks, double read_bytes_per_s,
               const MachineProfile& profile) {
  double flops = 0, under_way = 0;
  const auto [num_batches, num_tokens] = batch_totals(load.units);
  for (std::size_t u = 0; u < load.units.size(); ++u) {
    if (load.units[u].of_batch() == nullptr) continue;
    flops += load.units[u].flops;
    under_way += static_cast<double>(load.bytes_under_way[u]);
  }
  const std::int64_t groups = std::max(1, num_ranks / stages);
  const std::int64_t mine = (num_batches + groups - 1) / groups;
  // All wait for the stage with the largest part.
  const auto share_of = [](const std::vector<double>& of_layers, const LayerRange& range) {
    return std::accumulate(of_layers.begin() + range.first, of_layers.begin() + range.last, 0.0) /
           std::accumulate(of_layers.begin(), of_layers.end(), 0.0);
  };
  double part = 0, part_read = 0;
  for (const LayerRange& range : stage_layers(load.layer_costs, stages)) {
    part = std::max(part, share_of(load.layer_costs, range));
    part_read = std::max(part_read, share_of(load.layer_bytes, range));
  }
  double batch_s = flops / static_cast<double>(num_batches) / load.rates.prompt_flops_per_s * part;
  if (stages > 1)
    batch_s += profile.message_s + under_way / static_cast<double>(num_batches) / profile.network_bytes_per_s;
  const double bytes = std::accumulate(load.layer_bytes.begin(), load.layer_bytes.end(), 0.0) * part_read;
  const double memory = std::accumulate(load.layer_memory.begin(), load.layer_memory.end(), 0.0) * part_read;
  const double stays = memory > 0 ? std::min(1.0, static_cast<double>(load.resident_bytes_limit) / memory) : 1.0;
  std::int64_t a_round = mine;
  if (load.hidden_bytes_limit > 0) {
    const double one = under_way / static_cast<double>(num_batches);
    a_round = std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(load.hidden_bytes_limit) / one));
  }
  if (stages > 1)
    a_round = std::min(a_round, batches_a_round({mine, mine * num_tokens / num_batches}, stages, stays >= 1));
  a_round = std::clamp<std::int64_t>(a_round, 1, mine);
  const auto rounds = static_cast<double>((mine + a_round - 1) / a_round);
  const double compute_s = batch_s * static_cast<double>(mine + (stages - 1) * a_round);
  return compute_s + bytes / read_bytes_per_s * (1 + (rounds - 1) * (1 - stays));
}

/// A slot's count, chunks of its sums where its size hardly changes, and extremes.
constexpr double kBytesOfSum = 17 * 8;

/// Whether anything of single prompts is stored.
bool has_rows(const PlannedSet& set, const KeepChoice& keep) {
  return std::any_of(set.analyses.begin(), set.analyses.end(), [&](const Chosen& chosen) {
    const auto quantities = chosen.quantities();
    return std::any_of(quantities.begin(), quantities.end(),
                       [&](const Quantity* quantity) { return is_kept(*quantity, keep); });
  });
}

}  // namespace

ModelLoad model_load(const OpenModel& model, const ModelPlan& plan, const Job& job, std::int64_t limit_bytes,
                     const WorkRates& rates) {
  const ModelDescription& d = model.description;
  ModelLoad load;
  load.rates = rates;
  const auto& of_weights = plan.of_weights;
  const bool heads_take_them = std::any_of(of_weights.begin(), of_weights.end(), [](const Chosen& chosen) {
    return chosen.of_layers() != nullptr && chosen.of_layers()->needs_value_spectra();
  });
  if (plan.wants().value_spectra && !heads_take_them) load.values_flops = value_spectra_flops(d);
  load.hidden_bytes_limit = hidden_bytes_limit(job, d, plan, limit_bytes);
  load.in_flight_bytes = in_flight_bytes(job, d, plan, layers_in_flight(job, d, plan, limit_bytes));
  load.tensors_in_flight_bytes = tensors_in_flight_bytes(plan, limit_bytes);
  load.resident_bytes_limit = resident_bytes_limit(job, d, plan, limit_bytes);
  for (const auto& unit : plan.units) {
    const BatchWork* batch = unit.of_batch();
    const TensorWork* tensor = unit.of_tensor();
    if (tensor != nullptr) load.collect_bytes += static_cast<double>(8 * tensor->matrix.num_singular_values());
    load.bytes_under_way.push_back(batch == nullptr ? 0 : bytes_under_way(d, plan, *batch, job.compute.dtype));
    if (batch != nullptr && has_rows(plan.sets[batch->set], job.keep))
      load.collect_bytes += static_cast<double>(load.bytes_under_way.back());
    if (batch == nullptr)
      load.units.push_back({.work = unit.work, .flops = unit.flops});
    else
      load.units.push_back({.work = BatchWork{batch->set, {}, batch->num_tokens}, .flops = unit.flops});
  }
  load.layer_costs = layer_costs(d, plan);
  load.sums_bytes = static_cast<double>(num_statistics(d, plan)) * kBytesOfSum;
  const double element = element_bytes(model);
  const auto matrices = static_cast<double>(num_matrix_elements(d, plan));
  double largest = 1;
  for (std::int64_t l = 0; l < d.num_layers; ++l) {
    const auto parameters = static_cast<double>(num_elements(d.layers[static_cast<std::size_t>(l)]));
    load.layer_bytes.push_back(parameters * element);
    load.layer_memory.push_back(static_cast<double>(layer_size_bytes(d, l, job.compute.dtype)));
    largest = std::max(largest, parameters);
  }
  load.matrix_share = std::min(1.0, matrices / largest);
  for (const Chosen& chosen : of_weights) {
    const RowsAnalysis* analysis = chosen.of_rows();
    if (analysis == nullptr) continue;
    const auto shape = analysis->matrix(d).canonical_shape();
    load.unembedding_bytes = static_cast<double>(shape[0] * shape[1]) * element;
    load.num_unembedding_parts = static_cast<int>(analysis->parts(d).size());
    if (load.num_unembedding_parts == 1) continue;
    load.join_flops = analysis->join_flops(d);
    load.collect_bytes += static_cast<double>(load.num_unembedding_parts * 4 * shape[1] * (shape[1] + 1));
  }
  for (const PlannedSet& set : plan.sets)
    for (const Chosen& chosen : set.analyses)
      if (chosen.has_set_quantities()) {
        load.join_flops += chosen.of_prompts()->join_flops(circumstances_of(set, chosen, d));
        load.collect_bytes += static_cast<double>(std::ssize(set.prompts) * set.fixed_values * 8);
      }
  return load;
}

std::vector<double> layer_costs(const ModelDescription& model, const ModelPlan& plan) {
  std::vector<double> costs;
  for (const LayerSources& layer : model.layers) costs.push_back(static_cast<double>(num_elements(layer)));
  double behind = 0;
  std::int64_t num_tokens = 0;
  for (const Unit& unit : plan.units)
    if (const BatchWork* batch = unit.of_batch()) {
      behind += final_flops(model, plan, *batch);
      num_tokens += batch->num_tokens;
    }
  constexpr double kFlopsOfParameter = 2;  // for a token
  if (num_tokens > 0 && !costs.empty()) costs.back() += behind / (kFlopsOfParameter * static_cast<double>(num_tokens));
  return costs;
}

std::vector<LayerRange> stage_layers(const std::vector<double>& layer_costs, int num_stages) {
  const double total = std::accumulate(layer_costs.begin(), layer_costs.end(), 0.0);
  const auto num_layers = static_cast<std::int64_t>(layer_costs.size());
  std::vector<LayerRange> ranges;
  std::int64_t layer = 0;
  double before = 0;  // cost of the layers before `layer`
  for (int stage = 0; stage < num_stages; ++stage) {
    LayerRange range{layer, layer};
    const double target = total * (stage + 1) / num_stages;
    // A layer belongs to the stage in which its middle lies.
    while (layer < num_layers &&
           (stage + 1 == num_stages || before + layer_costs[static_cast<std::size_t>(layer)] / 2 < target))
      before += layer_costs[static_cast<std::size_t>(layer++)];
    range.last = layer;
    ranges.push_back(range);
  }
  return ranges;
}

double group_seconds(const ModelLoad& load, const Unit& unit, int stages, double read_bytes_per_s) {
  const double seconds = load.rates.seconds_of(unit);
  if (const TensorWork* tensor = unit.of_tensor())
    return seconds + static_cast<double>(tensor->matrix.size_bytes()) / read_bytes_per_s;
  if (unit.of_rows() == nullptr) return seconds;
  const double parts = load.num_unembedding_parts;
  return (seconds + load.unembedding_bytes / parts / read_bytes_per_s) * std::max(1.0, stages / parts);
}

void BatchTotals::add(const Unit& unit) {
  const BatchWork* batch = unit.of_batch();
  if (batch == nullptr) return;
  ++num_batches;
  num_tokens += batch->num_tokens;
}

std::int64_t BatchTotals::together() const {
  return std::max<std::int64_t>(1, tokens_together() * num_batches / std::max<std::int64_t>(1, num_tokens));
}

BatchTotals batch_totals(const std::vector<Unit>& units) {
  BatchTotals totals;
  for (const Unit& unit : units) totals.add(unit);
  return totals;
}

BatchTotals batch_totals(const std::vector<Unit>& units, const std::vector<std::size_t>& chosen) {
  BatchTotals totals;
  for (const std::size_t unit : chosen) totals.add(units[unit]);
  return totals;
}

std::int64_t batches_a_round(const BatchTotals& batches, int num_stages, bool layers_stay) {
  if (layers_stay) return batches.together();
  return std::max(batches.together(), batches.num_batches / (kRoundsPerStage * num_stages));
}

int choose_stages(const ModelLoad& load, int num_ranks, int num_ranks_in_all, const MachineProfile& profile) {
  const bool has_batches =
      std::any_of(load.units.begin(), load.units.end(), [](const Unit& unit) { return unit.of_batch() != nullptr; });
  if (!has_batches) return 1;
  const double rate = profile.read_bytes_per_s_of(load.rates, num_ranks_in_all);
  const int most = std::min<int>(num_ranks, static_cast<int>(load.layer_bytes.size()));
  std::vector<std::pair<int, double>> tried;
  double best_s = 0;
  for (int stages = 1; stages <= most; ++stages) {
    tried.emplace_back(stages, group_s(load, stages, num_ranks, rate, profile));
    if (stages == 1 || tried.back().second < best_s) best_s = tried.back().second;
  }
  for (const auto& [stages, seconds] : tried)
    if (seconds <= 1.05 * best_s) return stages;
  return 1;
}

int stages_of(const Job& job, const ModelLoad& load, std::size_t num_models, int num_ranks,
              const MachineProfile& profile) {
  const int most = std::min<int>(num_ranks, static_cast<int>(load.layer_bytes.size()));
  if (job.compute.stages) return std::clamp(*job.compute.stages, 1, std::max(1, most));
  const int for_each = std::max(1, num_ranks / static_cast<int>(std::max<std::size_t>(1, num_models)));
  return choose_stages(load, for_each, num_ranks, profile);
}

}  // namespace spectrace
