#include <fmt/format.h>

#include <algorithm>

#include "spectrace/app/commands.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/text.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "spectrace/plan/calibration.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/plan/simulation.hpp"
#include "spectrace/sweep/num_threads.hpp"

namespace spectrace {
namespace {

/// Above so many ranks the table shows the least, the mean and the most.
constexpr int kMostRanksShown = 16;

/// A model of the job as planning sees it.
struct PlannedModel {
  std::string name;
  std::string error;  ///< why it cannot be planned; empty if it can
  std::vector<std::string> keys;
  MemoryNeed need;
  std::int64_t device_bytes = 0;  ///< of a GPU, where the job asks for one
  double flops = 0;
  bool is_measured = false;   ///< its rates
  double expected_bytes = 0;  ///< of a rank at its peak
  ModelLoad load;
};

PlannedModel plan_one(const Job& job, const ModelEntry& entry, int ranks_on_host, int num_threads, bool calibrated,
                      MachineProfile& profile) {
  PlannedModel planned;
  planned.name = entry.name;
  const OpenModel model = open_model(entry, job, IoMode::automatic);
  const ModelDescription& d = model.description;
  std::vector<PreparedSet> sets;
  const AnalysisChoice analyses = job.analyses.possible(d);
  if (analyses.any_of_prompts()) sets = prepare_prompts(model, job.sets_of(entry));
  ModelPlan plan =
      plan_model(d, analyses, spectrace::planned(std::move(sets), analyses), plan_options(job, model.config.json()));
  const std::int64_t limit = memory_limit_bytes(job, host_memory_bytes(), ranks_on_host);
  planned.need = memory_need(d, plan, job);
  if (const Device device = planned_device(job); !device.is_host())
    planned.device_bytes = device_memory_need(d, plan, job.compute.dtype, device).least();
  planned.flops = plan.total_flops();
  const std::string key = rates_key(d, job, num_threads);
  if (calibrated && !profile.is_measured(key)) profile.measured[key] = calibrate(model, plan, job);
  planned.is_measured = profile.is_measured(key);
  planned.load = model_load(model, plan, job, limit, profile.rates_of(key, num_threads));
  for (auto& unit : plan.units) planned.keys.push_back(std::move(unit.key));
  return planned;
}

Json to_json(const RankLoad& load) {
  return {{"units", load.num_units},   {"layers_read", load.num_layers_read},
          {"tokens", load.num_tokens}, {"flops", load.flops},
          {"bytes_read", load.bytes},  {"estimated_s", load.busy_s}};
}

/// Bytes that a rank has at its peak while it works on the model, the most of all ranks.
double expected_bytes(const PlannedModel& model, const std::vector<RankLoad>& ranks) {
  double most = static_cast<double>(model.need.least());
  for (const RankLoad& rank : ranks)
    if (rank.busy_s > 0) most = std::max(most, peak_bytes(model.need, model.load, rank));
  return most;
}

Json models_to_json(const std::vector<PlannedModel>& models, const SimulatedSweep& sweep, const CommandLine& line) {
  const int per_node = line.ranks_per_node > 0 ? line.ranks_per_node : line.num_ranks;
  Json all = Json::array();
  std::size_t place = 0;
  for (const auto& model : models) {
    if (!model.error.empty()) {
      all.push_back({{"model", model.name}, {"error", model.error}});
      continue;
    }
    Json json = {{"model", model.name},
                 {"units", model.keys.size()},
                 {"stages", model.load.stages},
                 {"flops", model.flops},
                 {"least_memory_bytes", model.need.least()},
                 {"memory_bytes", model.expected_bytes},
                 {"ranks", Json::array()}};
    if (model.device_bytes > 0) json["least_device_memory_bytes"] = model.device_bytes;
    for (std::size_t rank = 0; rank < sweep.units[place].size(); ++rank) {
      if (sweep.of_models[place][rank].busy_s == 0) continue;
      Json share = to_json(sweep.of_models[place][rank]);
      share["rank"] = rank;
      share["node"] = static_cast<int>(rank) / per_node;
      share["memory_bytes"] = peak_bytes(model.need, model.load, sweep.of_models[place][rank]);
      // A group's units are with its first rank; the others have parts of them.
      share["group"] = rank / static_cast<std::size_t>(model.load.stages) * static_cast<std::size_t>(model.load.stages);
      for (const std::size_t unit : sweep.units[place][rank]) share["unit_keys"].push_back(model.keys[unit]);
      json["ranks"].push_back(std::move(share));
    }
    all.push_back(std::move(json));
    ++place;
  }
  return all;
}

double mib(auto bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::string duration(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  return whole >= 3600 ? fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60)
                       : fmt::format("{} min {:02} s", whole / 60, whole % 60);
}

void print_row(const std::string& name, const RankLoad& load) {
  fmt::print("{:>8} {:>7} {:>8} {:>10} {:>11.1f} {:>10.3g} {:>10.3g}\n", name, load.num_units, load.num_layers_read,
             load.num_tokens, load.bytes / (1 << 20), load.flops, load.busy_s);
}

void print_ranks(const SimulatedSweep& sweep) {
  fmt::print("{:>8} {:>7} {:>8} {:>10} {:>11} {:>10} {:>10}\n", "rank", "units", "layers", "tokens", "read MiB",
             "flops", "about s");
  if (sweep.ranks.size() <= kMostRanksShown) {
    for (std::size_t rank = 0; rank < sweep.ranks.size(); ++rank) print_row(std::to_string(rank), sweep.ranks[rank]);
    return;
  }
  const auto by_time = [](const RankLoad& a, const RankLoad& b) { return a.busy_s < b.busy_s; };
  print_row("least", *std::min_element(sweep.ranks.begin(), sweep.ranks.end(), by_time));
  print_row("most", *std::max_element(sweep.ranks.begin(), sweep.ranks.end(), by_time));
}

/// The models of a job, and the sweep over them, as planning sees it.
struct PlannedJob {
  std::vector<PlannedModel> models;
  std::vector<ModelLoad> loads;  // of those that can be planned
  SimulatedSweep sweep;
  int threads = 1, ranks_per_node = 1, sensible_ranks = 1;
  bool all_measured = true, any_failed = false;
  double flops = 0, expected_bytes = 0;
  std::int64_t least_bytes = 0, limit_bytes = 0, device_bytes = 0;
  std::string largest;  // model
  bool fits() const { return least_bytes <= limit_bytes; }
};

void plan_models(const Job& job, const CommandLine& line, MachineProfile& profile, PlannedJob& planned) {
  for (const auto& entry : job.models) {
    try {
      planned.models.push_back(plan_one(job, entry, planned.ranks_per_node, planned.threads, line.calibrate, profile));
      const PlannedModel& model = planned.models.back();
      planned.all_measured &= model.is_measured;
      planned.loads.push_back(model.load);
      planned.flops += model.flops;
      planned.least_bytes = std::max(planned.least_bytes, model.need.least());
      planned.device_bytes = std::max(planned.device_bytes, model.device_bytes);
    } catch (const InputError& error) {
      planned.any_failed = true;
      planned.models.emplace_back().name = entry.name;
      planned.models.back().error = error.what();
    }
  }
}

void plan_sweep(const Job& job, const CommandLine& line, const MachineProfile& profile, PlannedJob& planned) {
  std::size_t place = 0;
  for (PlannedModel& model : planned.models) {
    if (!model.error.empty()) continue;
    planned.loads[place].stages = model.load.stages =
        stages_of(job, model.load, job.models.size(), line.num_ranks, profile);
    ++place;
  }
  planned.sweep = simulate_sweep(planned.loads, line.num_ranks, profile, /*with_details=*/true);
  place = 0;
  for (PlannedModel& model : planned.models) {
    if (!model.error.empty()) continue;
    model.expected_bytes = expected_bytes(model, planned.sweep.of_models[place++]);
    if (model.expected_bytes <= planned.expected_bytes) continue;
    planned.expected_bytes = model.expected_bytes;
    planned.largest = model.name;
  }
  planned.sensible_ranks = sensible_number_of_ranks(planned.loads, profile);
}

void print_as_json(const Job& job, const CommandLine& line, const PlannedJob& planned) {
  Json all = {{"job", job.name},
              {"ranks", line.num_ranks},
              {"ranks_per_node", planned.ranks_per_node},
              {"threads", planned.threads},
              {"calibrated", planned.all_measured},
              {"makespan_s", planned.sweep.makespan_s},
              {"efficiency", planned.sweep.efficiency},
              {"sensible_ranks", planned.sensible_ranks},
              {"flops", planned.flops},
              {"least_memory_bytes", planned.least_bytes},
              {"memory_bytes", planned.expected_bytes},
              {"memory_limit_bytes", planned.limit_bytes},
              {"fits", planned.fits()},
              {"rank_totals", Json::array()},
              {"models", models_to_json(planned.models, planned.sweep, line)}};
  for (const auto& rank : planned.sweep.ranks) all["rank_totals"].push_back(to_json(rank));
  fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_for_people(const CommandLine& line, const PlannedJob& planned) {
  fmt::print("{:<40} {:>7} {:>10} {:>14} {:>7}\n", "model", "units", "flops", "memory MiB", "stages");
  for (const auto& model : planned.models) {
    if (model.error.empty())
      fmt::print("{:<40} {:>7} {:>10.3g} {:>14.0f} {:>7}\n", model.name, model.keys.size(), model.flops,
                 mib(model.expected_bytes), model.load.stages);
    else
      fmt::print("{}: {}\n", model.name, model.error);
  }
  fmt::print("\n");
  print_ranks(planned.sweep);
  fmt::print("\n{} ranks: about {}, {:.0f} % of the ranks' time at work. Up to {} ranks stay above 90 %.\n",
             line.num_ranks, duration(planned.sweep.makespan_s), 100 * planned.sweep.efficiency,
             planned.sensible_ranks);
  fmt::print("memory of a rank: about {:.0f} MiB (for {}), {:.0f} MiB at least, {:.0f} MiB allowed{}\n",
             mib(planned.expected_bytes), planned.largest, mib(planned.least_bytes), mib(planned.limit_bytes),
             planned.fits()
                 ? ""
                 : ": too little. Give fewer ranks a node, a larger --max-memory, or smaller tokens_per_batch");
  fmt::print("times are of ranks of {}, {}\n", number_of(planned.threads, "thread"),
             planned.all_measured
                 ? "as measured on this machine"
                 : "on typical cores: --calibrate measures this machine (within a job: a compute node)");
  if (planned.device_bytes > 0)
    fmt::print(
        "memory of a rank's GPU: {} MiB at least; spectra and Laplacians take the host's cores, times are of hosts "
        "without GPUs\n",
        planned.device_bytes >> 20);
  else if (line.gpus_per_node > 0)
    fmt::print("GPUs are not used: --device cuda asks for them\n");
}

}  // namespace

int command_plan(const CommandLine& line) {
  const Job job = read_job(line.target, line.run.overrides);
  PlannedJob planned;
  planned.ranks_per_node = line.ranks_per_node > 0 ? line.ranks_per_node : line.num_ranks;
  planned.limit_bytes = memory_limit_bytes(job, host_memory_bytes(), planned.ranks_per_node);
  MachineProfile profile = read_machine_profile(default_profile_path());
  planned.threads = default_num_threads(job.compute.threads, planned.ranks_per_node);
  start_compute_threads(planned.threads);        // memory and rounds depend on them
  if (line.calibrate) profile.measured.clear();  // what was measured before may be of another time of day
  plan_models(job, line, profile, planned);
  if (line.calibrate) write_machine_profile(default_profile_path(), profile);
  plan_sweep(job, line, profile, planned);
  if (line.as_json)
    print_as_json(job, line, planned);
  else
    print_for_people(line, planned);
  return planned.any_failed ? kSomeFailed : kAllDone;
}

}  // namespace spectrace
