#include "spectrace/plan/memory.hpp"

#include <algorithm>

#include "spectrace/core/parallel.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/unembedding.hpp"
#include "spectrace/measure/weight_spectra.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/numerics/attention_statistics.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
/// Resident after start-up with libtorch, HDF5 and MPI in it.
constexpr std::int64_t kLibraries = 142 * kMiB;
/// What the matrix products of the forward pass bring along: code pages, buffers.
constexpr std::int64_t kProducts = 18 * kMiB;
constexpr std::int64_t kEmbeddingRows = 64 * kMiB;
constexpr std::int64_t kLeastUnderWay = 16 * kMiB, kMostUnderWay = 2048 * kMiB;
/// Batches that go through a block together, at most (256 tokens of 4096).
constexpr std::int64_t kBatchesTogether = 16;
constexpr std::int64_t kThreadsOfLayer = 4;  // that its matrices keep busy

/// Exact sums of a value's statistics (192 bytes where its size hardly changes), and what is made of them.
constexpr std::int64_t kStatisticsOfValue = 350;

/// Values that a batch's record has for each prompt.
std::int64_t values_of_prompt(const ModelDescription& model, const AnalysisChoice& analyses, std::int64_t num_beta,
                              bool graph_eigenvalues, std::int64_t longest) {
  const std::int64_t heads = model.num_layers * model.num_heads;
  std::int64_t values = 0;
  if (analyses.attention) values += 3 * heads + 3 * model.num_layers;
  if (analyses.sheaf) values += (6 + 9 * num_beta + (graph_eigenvalues ? longest : 0)) * heads + 3 * model.num_layers;
  if (analyses.residual) values += 3 * (model.num_layers + 1) + 3;
  return values;
}

}  // namespace

std::int64_t MemoryNeed::least() const {
  return libraries + std::max({layer + workspace + one_batch, unembedding, collecting});
}

std::int64_t bytes_under_way(const ModelDescription& model, const ModelPlan& plan, const Unit& unit, ComputeType dtype,
                             std::int64_t num_beta, bool graph_eigenvalues) {
  std::int64_t longest = 0;
  if (graph_eigenvalues)
    for (const std::size_t prompt : unit.prompts)
      longest = std::max(longest, static_cast<std::int64_t>(plan.sets[unit.set].prompts[prompt].token_ids.size()));
  return unit.num_tokens * model.hidden_size * (dtype == ComputeType::float64 ? 8 : 4) +
         static_cast<std::int64_t>(unit.prompts.size()) *
             values_of_prompt(model, plan.analyses, num_beta, graph_eigenvalues, longest) * 8;
}

MemoryNeed memory_need(const ModelDescription& model, const ModelPlan& plan, const Job& job) {
  const ComputeType dtype = job.compute.dtype;
  const std::int64_t element = dtype == ComputeType::float64 ? 8 : 4;
  const std::int64_t attention_weights =
      2 * (model.num_heads + model.num_kv_heads) * model.head_dim * model.hidden_size * element;
  const Device device = planned_device(job);
  const bool spectra = plan.analyses.weights || plan.analyses.heads;
  const bool sees_attention = plan.analyses.attention || plan.analyses.sheaf;
  MemoryNeed need;
  need.libraries = kLibraries;
  std::int64_t largest_batch = 0, all_tokens = 0, longest = 0, longest_short = 0, num_prompts = 0;
  for (const auto& unit : plan.units)
    if (unit.kind == UnitKind::prompts) {
      largest_batch = std::max(largest_batch, unit.num_tokens);
      all_tokens += unit.num_tokens;
      for (const std::size_t prompt : unit.prompts) {
        const auto tokens = static_cast<std::int64_t>(plan.sets[unit.set].prompts[prompt].token_ids.size());
        longest = std::max(longest, tokens);
        if (!has_long_attention(model, tokens)) longest_short = std::max(longest_short, tokens);
      }
    }
  for (const auto& unit : plan.units)
    if (unit.kind == UnitKind::prompts) {
      const std::int64_t bytes = bytes_under_way(model, plan, unit, dtype, job.beta.count, job.graph_eigenvalues);
      need.one_batch = std::max(need.one_batch, bytes);
      need.all_batches += bytes;
      num_prompts += static_cast<std::int64_t>(unit.prompts.size());
    }
  if (largest_batch > 0) {
    // Rows of the embedding that the checkpoint keeps.
    need.libraries += kProducts + std::min(kEmbeddingRows, model.vocab_size * model.hidden_size * element);
    for (std::int64_t l = 0; l < model.num_layers; ++l)
      need.layer = std::max(need.layer, layer_size_bytes(model, l, dtype));
    // Short prompts go side by side, so the longest of them may take more than a longer one that goes alone.
    for (const std::int64_t tokens : {longest_short, longest}) {
      if (tokens == 0) continue;
      std::int64_t bytes = measurement_workspace_bytes(model, tokens, plan.analyses.attention, plan.analyses.sheaf);
      if (device.is_host()) {
        const std::int64_t together = std::max(largest_batch, std::min(all_tokens, tokens_together()));
        bytes += block_workspace_bytes(model, together, tokens, dtype, sees_attention);
      }
      need.workspace = std::max(need.workspace, bytes);
    }
    if (!device.is_host()) {
      need.libraries += 2 * Device::kBroughtAtOnce;
      need.layer += 2 * attention_weights;  // of this layer and of the next one
    }
  } else if (spectra) {
    need.layer = attention_weights;
  }
  std::int64_t join = 0;
  if (plan.analyses.unembedding) {
    const auto shape = model.embedding.unembedding.canonical_shape();
    need.unembedding = unembedding_workspace_bytes(shape[0], shape[1]);
    join = unembedding_join_bytes(shape[0], shape[1]);
  }
  const std::int64_t spectra_workspace = spectra ? weight_spectra_workspace_bytes(model) : 0;
  if (device.leaves_host_free() && largest_batch > 0)
    need.workspace += std::max(spectra_workspace, need.unembedding);
  else
    need.workspace = std::max(need.workspace, spectra_workspace);
  // The unembedding's join; later two records, rows that wait for their chunk to fill (half a MiB a dataset),
  // statistics' sums (free energy has some too, graph_eigenvalues have none), ids.
  const std::int64_t sums = values_of_prompt(model, plan.analyses, job.beta.count, false, 0) +
                            (plan.analyses.sheaf ? job.beta.count * model.num_layers * model.num_heads : 0);
  need.collecting = std::max(join, 2 * need.one_batch + 20 * kMiB + sums * kStatisticsOfValue) + num_prompts * 200;
  return need;
}

DeviceNeed device_memory_need(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype,
                              const Device& device) {
  DeviceNeed need;
  std::int64_t largest_batch = 0, longest = 0;
  for (const auto& unit : plan.units)
    if (unit.kind == UnitKind::prompts) {
      largest_batch = std::max(largest_batch, unit.num_tokens);
      for (const std::size_t prompt : unit.prompts)
        longest = std::max(longest, static_cast<std::int64_t>(plan.sets[unit.set].prompts[prompt].token_ids.size()));
    }
  if (largest_batch == 0) return need;
  for (std::int64_t l = 0; l < model.num_layers; ++l)
    need.layer = std::max(need.layer, 2 * layer_size_bytes(model, l, dtype));
  need.layer += std::min(need.layer / 4, Device::kBroughtAtOnce);  // not yet widened: at most half of a layer
  need.one_batch = largest_batch * model.hidden_size * (dtype == ComputeType::float64 ? 8 : 4);
  need.workspace = block_workspace_bytes(model, largest_batch, longest, dtype,
                                         plan.analyses.attention || plan.analyses.sheaf, device) +
                   (plan.analyses.attention ? attention_statistics_device_bytes(model.num_heads, longest) : 0);
  return need;
}

Device planned_device(const Job& job) {
  return job.compute.device == DeviceChoice::cuda ? Device::of_backend(at::Device(at::kCUDA, 0)) : Device::cpu();
}

std::int64_t resident_bytes_limit(const DeviceNeed& need, std::int64_t bytes_under_way, std::int64_t limit_bytes) {
  return std::max<std::int64_t>(0, limit_bytes - need.least() - bytes_under_way);
}

std::int64_t memory_limit_bytes(const Job& job, std::int64_t host_bytes, int ranks_on_host) {
  if (job.compute.max_memory_gib) return static_cast<std::int64_t>(*job.compute.max_memory_gib * (1 << 30));
  return host_bytes * 8 / 10 / std::max(1, ranks_on_host);
}

namespace {

/// What the work on one layer takes. What is expected may be a little short of what it takes, and what it lacked would
/// be refused.
std::int64_t work_bytes(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                        std::int64_t limit_bytes) {
  const MemoryNeed need = memory_need(model, plan, job);
  const std::int64_t under_way =
      std::max(need.one_batch, std::min(need.all_batches, hidden_bytes_limit(job, model, plan, limit_bytes)));
  return std::max(need.layer + need.workspace + under_way, need.unembedding) * 5 / 4;
}

}  // namespace

std::int64_t hidden_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                std::int64_t limit_bytes) {
  const MemoryNeed need = memory_need(model, plan, job);
  const std::int64_t left = limit_bytes - need.libraries - need.layer - need.workspace;
  // Worth some layers, since every stream reads them all again, and some batches, since threads share these.
  const std::int64_t worthwhile = std::max(16 * need.layer, std::min(kBatchesTogether * need.one_batch, 64 * kMiB));
  const std::int64_t wanted = std::clamp(worthwhile, kLeastUnderWay, kMostUnderWay);
  return std::clamp<std::int64_t>(left, 1, wanted);
}

std::int64_t in_flight_bytes(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                             std::int64_t num_layers) {
  if (num_layers <= 1) return 0;  // nor does one whose spectra nobody takes
  const MemoryNeed need = memory_need(model, plan, job);
  return (num_layers - 1) * need.layer +
         std::max<std::int64_t>(0, weight_spectra_workspace_bytes(model, num_layers) - need.workspace);
}

std::int64_t layers_in_flight(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                              std::int64_t limit_bytes) {
  const bool spectra = plan.analyses.weights || plan.analyses.heads;
  if (!spectra || planned_device(job).leaves_host_free()) return 1;
  const std::int64_t left =
      limit_bytes - memory_need(model, plan, job).libraries - work_bytes(job, model, plan, limit_bytes);
  std::int64_t layers = std::clamp<std::int64_t>(num_threads() / kThreadsOfLayer, 1, model.num_layers);
  while (layers > 1 && in_flight_bytes(job, model, plan, layers) > left) --layers;
  return layers;
}

std::int64_t resident_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                  std::int64_t limit_bytes) {
  const std::int64_t in_flight = in_flight_bytes(job, model, plan, layers_in_flight(job, model, plan, limit_bytes));
  return std::max<std::int64_t>(
      0, limit_bytes - memory_need(model, plan, job).libraries - work_bytes(job, model, plan, limit_bytes) - in_flight);
}

}  // namespace spectrace
