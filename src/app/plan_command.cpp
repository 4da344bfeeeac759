#include <fmt/format.h>

#include <algorithm>

#include "spectrace/app/commands.hpp"
#include "spectrace/core/host_memory.hpp"
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
  if (job.analyses.any_of_prompts()) sets = prepare_prompts(model, job.sets_of(entry));
  ModelPlan plan =
      plan_model(d, job.analyses, spectrace::planned(std::move(sets), job.analyses), plan_options(job, model.config.json()));
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

}  // namespace

int command_plan(const CommandLine& line) {
  const Job job = read_job(line.target, line.run.overrides);
  const int per_node = line.ranks_per_node > 0 ? line.ranks_per_node : line.num_ranks;
  const std::int64_t limit = memory_limit_bytes(job, host_memory_bytes(), per_node);
  MachineProfile profile = read_machine_profile(default_profile_path());
  const int threads = default_num_threads(job.compute.threads, per_node);
  start_compute_threads(threads);                // memory and rounds depend on them
  if (line.calibrate) profile.measured.clear();  // what was measured before may be of another time of day
  bool all_measured = true;
  std::vector<PlannedModel> models;
  std::vector<ModelLoad> loads;
  double flops = 0;
  std::int64_t least = 0;
  bool any_failed = false;
  for (const auto& entry : job.models) {
    try {
      models.push_back(plan_one(job, entry, per_node, threads, line.calibrate, profile));
      all_measured &= models.back().is_measured;
      loads.push_back(models.back().load);
      flops += models.back().flops;
      least = std::max(least, models.back().need.least());
    } catch (const InputError& error) {
      any_failed = true;
      models.emplace_back().name = entry.name;
      models.back().error = error.what();
    }
  }
  if (line.calibrate) write_machine_profile(default_profile_path(), profile);
  for (std::size_t m = 0, place = 0; m < models.size(); ++m) {
    if (!models[m].error.empty()) continue;
    loads[place].stages = models[m].load.stages =
        stages_of(job, models[m].load, job.models.size(), line.num_ranks, profile);
    ++place;
  }
  const SimulatedSweep sweep = simulate_sweep(loads, line.num_ranks, profile, /*with_details=*/true);
  double expected = 0;
  std::string largest;
  for (std::size_t m = 0, place = 0; m < models.size(); ++m) {
    if (!models[m].error.empty()) continue;
    models[m].expected_bytes = expected_bytes(models[m], sweep.of_models[place++]);
    if (models[m].expected_bytes > expected) {
      expected = models[m].expected_bytes;
      largest = models[m].name;
    }
  }
  const int sensible = sensible_number_of_ranks(loads, profile);
  const bool fits = least <= limit;
  const int exit_code = any_failed ? kSomeFailed : kAllDone;
  if (line.as_json) {
    Json all = {{"job", job.name},
                {"ranks", line.num_ranks},
                {"ranks_per_node", per_node},
                {"threads", threads},
                {"calibrated", all_measured},
                {"makespan_s", sweep.makespan_s},
                {"efficiency", sweep.efficiency},
                {"sensible_ranks", sensible},
                {"flops", flops},
                {"least_memory_bytes", least},
                {"memory_bytes", expected},
                {"memory_limit_bytes", limit},
                {"fits", fits},
                {"rank_totals", Json::array()},
                {"models", models_to_json(models, sweep, line)}};
    for (const auto& rank : sweep.ranks) all["rank_totals"].push_back(to_json(rank));
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
    return exit_code;
  }
  fmt::print("{:<40} {:>7} {:>10} {:>14} {:>7}\n", "model", "units", "flops", "memory MiB", "stages");
  for (const auto& model : models) {
    if (model.error.empty())
      fmt::print("{:<40} {:>7} {:>10.3g} {:>14.0f} {:>7}\n", model.name, model.keys.size(), model.flops,
                 mib(model.expected_bytes), model.load.stages);
    else
      fmt::print("{}: {}\n", model.name, model.error);
  }
  fmt::print("\n");
  print_ranks(sweep);
  fmt::print("\n{} ranks: about {}, {:.0f} % of the ranks' time at work. Up to {} ranks stay above 90 %.\n",
             line.num_ranks, duration(sweep.makespan_s), 100 * sweep.efficiency, sensible);
  fmt::print("memory of a rank: about {:.0f} MiB (for {}), {:.0f} MiB at least, {:.0f} MiB allowed{}\n", mib(expected),
             largest, mib(least), mib(limit),
             fits ? "" : ": too little. Give fewer ranks a node, a larger --max-memory, or smaller tokens_per_batch");
  fmt::print("times are of ranks of {} thread{}, {}\n", threads, threads == 1 ? "" : "s",
             all_measured ? "as measured on this machine"
                          : "on typical cores: --calibrate measures this machine (within a job: a compute node)");
  std::int64_t of_device = 0;
  for (const auto& model : models) of_device = std::max(of_device, model.device_bytes);
  if (of_device > 0)
    fmt::print(
        "memory of a rank's GPU: {} MiB at least; spectra and Laplacians take the host's cores, times are of hosts "
        "without GPUs\n",
        of_device >> 20);
  else if (line.gpus_per_node > 0)
    fmt::print("GPUs are not used: --device cuda asks for them\n");
  return exit_code;
}

}  // namespace spectrace
