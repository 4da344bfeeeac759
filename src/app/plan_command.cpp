#include <fmt/format.h>

#include <algorithm>

#include "spectrace/app/commands.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

/// Rate that times are estimated with, per rank. Only a scale: real rates depend on threads and machine.
constexpr double kFlopsPerSecond = 2e10;

/// What one rank does for one model.
struct Share {
  std::int64_t num_units = 0, num_layers_read = 0, num_tokens = 0;
  double flops = 0, bytes = 0, memory_bytes = 0;
};

double element_bytes(const OpenModel& model) {
  const TensorInfo* info = model.store.find(model.description.layers.front().w_v.weight.tensor);
  return info == nullptr ? 4.0 : static_cast<double>(element_size_bytes(info->type));
}

Share share_of(const OpenModel& model, const ModelPlan& plan, const std::vector<std::size_t>& units, ComputeType type) {
  const ModelDescription& d = model.description;
  Share share;
  share.num_units = static_cast<std::int64_t>(units.size());
  std::vector<bool> layers(static_cast<std::size_t>(d.num_layers), false);
  bool runs_prompts = false;
  std::int64_t largest_batch = 0, longest = 1;
  double unembedding_bytes = 0;
  for (const std::size_t index : units) {
    const Unit& unit = plan.units[index];
    share.flops += unit.flops;
    if (unit.layer >= 0) layers[static_cast<std::size_t>(unit.layer)] = true;
    if (unit.kind == UnitKind::unembedding) {
      const auto shape = d.embedding.unembedding.canonical_shape();
      unembedding_bytes = static_cast<double>(shape[0] * shape[1]) * element_bytes(model);
    }
    if (unit.kind != UnitKind::prompts) continue;
    runs_prompts = true;
    share.num_tokens += unit.num_tokens;
    largest_batch = std::max(largest_batch, unit.num_tokens);
    for (const std::size_t prompt : unit.prompts)
      longest = std::max(longest, static_cast<std::int64_t>(plan.sets[unit.set].prompts[prompt].token_ids.size()));
  }
  if (runs_prompts) std::fill(layers.begin(), layers.end(), true);
  const double attention_share = static_cast<double>(2 * (d.num_heads + d.num_kv_heads) * d.head_dim * d.hidden_size);
  std::int64_t largest_layer = 0;
  for (std::int64_t l = 0; l < d.num_layers; ++l) {
    if (!layers[static_cast<std::size_t>(l)]) continue;
    ++share.num_layers_read;
    share.bytes +=
        element_bytes(model) * (runs_prompts ? static_cast<double>(num_layer_parameters(d, l)) : attention_share);
    largest_layer = std::max(largest_layer, layer_size_bytes(d, l, type));
  }
  share.bytes += unembedding_bytes;
  const double scalar_bytes = type == ComputeType::float64 ? 8 : 4;
  share.memory_bytes = 400.0 * (1 << 20) + static_cast<double>(largest_layer) +
                       scalar_bytes * static_cast<double>(share.num_tokens * d.hidden_size);
  if (runs_prompts) share.memory_bytes += static_cast<double>(block_workspace_bytes(d, largest_batch, longest, type));
  return share;
}

Json to_json(const Share& share) {
  return {{"units", share.num_units},
          {"layers_read", share.num_layers_read},
          {"tokens", share.num_tokens},
          {"flops", share.flops},
          {"bytes_read", share.bytes},
          {"memory_bytes", share.memory_bytes},
          {"estimated_s", share.flops / kFlopsPerSecond}};
}

Json plan_of(const Job& job, const ModelEntry& entry, const CommandLine& line) {
  const OpenModel model = open_model(entry, job, IoMode::automatic);
  std::vector<PreparedSet> sets;
  if (job.analyses.any_of_prompts()) sets = prepare_prompts(model, job.sets_of(entry));
  const ModelPlan plan = plan_model(model.description, job.analyses, std::move(sets), job.compute.tokens_per_batch);
  std::vector<std::size_t> all(plan.units.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  Json json = {
      {"model", entry.name}, {"units", plan.units.size()}, {"flops", plan.total_flops()}, {"ranks", Json::array()}};
  const auto shares = assign_units(plan.units, all, line.num_ranks);
  const int per_node = line.ranks_per_node > 0 ? line.ranks_per_node : line.num_ranks;
  for (std::size_t rank = 0; rank < shares.size(); ++rank) {
    Json share = to_json(share_of(model, plan, shares[rank], job.compute.dtype));
    share["rank"] = rank;
    share["node"] = static_cast<int>(rank) / per_node;
    for (const std::size_t unit : shares[rank]) share["unit_keys"].push_back(plan.units[unit].key);
    json["ranks"].push_back(std::move(share));
  }
  return json;
}

void print_plan(const Json& model) {
  fmt::print("{}: {} units, {:.3g} flops\n", model["model"].get<std::string>(), model["units"].get<int>(),
             model["flops"].get<double>());
  fmt::print("  {:>5} {:>5} {:>6} {:>7} {:>8} {:>11} {:>11} {:>10} {:>9}\n", "rank", "node", "units", "layers",
             "tokens", "read MiB", "memory MiB", "flops", "about s");
  for (const auto& rank : model["ranks"])
    fmt::print("  {:>5} {:>5} {:>6} {:>7} {:>8} {:>11.1f} {:>11.0f} {:>10.3g} {:>9.3g}\n", rank["rank"].get<int>(),
               rank["node"].get<int>(), rank["units"].get<int>(), rank["layers_read"].get<int>(),
               rank["tokens"].get<std::int64_t>(), rank["bytes_read"].get<double>() / (1 << 20),
               rank["memory_bytes"].get<double>() / (1 << 20), rank["flops"].get<double>(),
               rank["estimated_s"].get<double>());
}

}  // namespace

int command_plan(const CommandLine& line) {
  const Job job = read_job(line.target, line.run.overrides);
  Json all = {{"job", job.name},
              {"ranks", line.num_ranks},
              {"flops_per_second_assumed", kFlopsPerSecond},
              {"models", Json::array()}};
  bool any_failed = false;
  for (const auto& entry : job.models) {
    try {
      all["models"].push_back(plan_of(job, entry, line));
    } catch (const InputError& error) {
      any_failed = true;
      all["models"].push_back({{"model", entry.name}, {"error", error.what()}});
    }
  }
  if (line.as_json) {
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
    return any_failed ? kSomeFailed : kAllDone;
  }
  for (const auto& model : all["models"]) {
    if (model.contains("error"))
      fmt::print("{}: {}\n", model["model"].get<std::string>(), model["error"].get<std::string>());
    else
      print_plan(model);
  }
  fmt::print("times at {:.0f} Gflop/s a rank; graphs' eigenvalues and statistics included in flops\n",
             kFlopsPerSecond / 1e9);
  if (line.gpus_per_node > 0)
    fmt::print("GPUs are not used: the forward pass and the spectra run on the CPU in this version\n");
  return any_failed ? kSomeFailed : kAllDone;
}

}  // namespace spectrace
