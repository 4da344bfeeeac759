#include "spectrace/plan/memory.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "spectrace/core/parallel.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/model/prediction.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
/// What the matrix products of the forward pass bring along: code pages, buffers.
constexpr std::int64_t kProducts = 18 * kMiB;
constexpr std::int64_t kEmbeddingRows = 64 * kMiB;
constexpr std::int64_t kLeastUnderWay = 16 * kMiB, kMostUnderWay = 2048 * kMiB;
/// Batches that go through a block together, at most (256 tokens of 4096).
constexpr std::int64_t kBatchesTogether = 16;
constexpr std::int64_t kThreadsOfLayer = 4;  // that its matrices keep busy

/// Exact sums of a value's statistics (192 bytes where its size hardly changes), and what is made of them.
constexpr std::int64_t kStatisticsOfValue = 350;
constexpr std::int64_t kTextsOfPrompt = 200;  // bytes

/// Sizes of a plan's batches.
struct BatchSizes {
  std::int64_t largest = 0, all_tokens = 0, longest = 0, longest_short = 0, num_prompts = 0;  // tokens
  std::int64_t largest_bytes = 0, all_bytes = 0;                                              // under way
};

BatchSizes sizes_of_batches(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype) {
  BatchSizes sizes;
  for (const auto& unit : plan.units) {
    const BatchWork* batch = unit.of_batch();
    if (batch == nullptr) continue;
    sizes.largest = std::max(sizes.largest, batch->num_tokens);
    sizes.all_tokens += batch->num_tokens;
    for (const std::size_t prompt : batch->prompts) {
      const std::int64_t tokens = plan.sets[batch->set].prompts[prompt].num_tokens();
      sizes.longest = std::max(sizes.longest, tokens);
      if (!has_long_attention(model, tokens)) sizes.longest_short = std::max(sizes.longest_short, tokens);
    }
    const std::int64_t bytes = bytes_under_way(model, plan, *batch, dtype);
    sizes.largest_bytes = std::max(sizes.largest_bytes, bytes);
    sizes.all_bytes += bytes;
    sizes.num_prompts += static_cast<std::int64_t>(batch->prompts.size());
  }
  return sizes;
}

std::int64_t largest_layer_bytes(const ModelDescription& model, ComputeType dtype) {
  std::int64_t largest = 0;
  for (std::int64_t l = 0; l < model.num_layers; ++l) largest = std::max(largest, layer_size_bytes(model, l, dtype));
  return largest;
}

bool takes_spectra(const ModelPlan& plan) {
  return std::any_of(plan.of_weights.begin(), plan.of_weights.end(),
                     [](const Chosen& chosen) { return chosen.of_layers() != nullptr; });
}

/// Bytes of the `count` stored matrices that take the most.
std::int64_t largest_tensors_bytes(const ModelPlan& plan, std::size_t count) {
  std::vector<std::int64_t> bytes;
  for (const Unit& unit : plan.units)
    if (const TensorWork* tensor = unit.of_tensor()) bytes.push_back(stored_spectrum_bytes(tensor->matrix));
  count = std::min(count, bytes.size());
  std::partial_sort(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count), bytes.end(), std::greater<>());
  return std::accumulate(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count), std::int64_t{0});
}

/// The groups of analyses of stored matrices, which a collector holds whole.
std::int64_t tensor_group_bytes(const ModelPlan& plan) {
  std::map<const Analysis*, std::pair<std::int64_t, std::int64_t>> sizes;  // places, and singular values of the largest
  for (const Unit& unit : plan.units)
    if (const TensorWork* tensor = unit.of_tensor()) {
      auto& [places, most] = sizes[tensor->analysis];
      places = std::max(places, tensor->place + 1);
      most = std::max(most, tensor->matrix.num_singular_values());
    }
  std::int64_t bytes = 0;
  for (const auto& [analysis, size] : sizes) bytes += size.first * (size.second + 12) * 8;
  return bytes;
}

/// Of the layer analyses, which go one after the other.
std::int64_t layers_workspace_bytes(const ModelDescription& model, const ModelPlan& plan, std::int64_t num_layers) {
  std::int64_t bytes = 0;
  for (const Chosen& chosen : plan.of_weights)
    if (const LayerAnalysis* analysis = chosen.of_layers())
      bytes = std::max(bytes, analysis->workspace_bytes(model, num_layers));
  return bytes;
}

/// Of the block, and of what is measured of the prompts, while a batch is in it.
std::int64_t batch_workspace_bytes(const ModelDescription& model, const ModelPlan& plan, const BatchSizes& sizes,
                                   ComputeType dtype, const Device& device) {
  const PromptWants wants = plan.wants();
  std::int64_t most = 0;
  // Short prompts go side by side, so the longest of them may take more than a longer one that goes alone.
  for (const std::int64_t tokens : {sizes.longest_short, sizes.longest}) {
    if (tokens == 0) continue;
    std::int64_t bytes = 0;
    for (const PlannedSet& set : plan.sets)
      bytes = std::max(bytes, measurement_workspace_bytes(model, set.analyses, tokens, device));
    if (device.is_host()) {
      const std::int64_t together = std::max(sizes.largest, std::min(sizes.all_tokens, tokens_together()));
      bytes += block_workspace_bytes(model, together, tokens, dtype, wants.attention);
      if (wants.scores) bytes += scores_workspace_bytes(model, tokens, dtype);
      if (wants.writes) bytes += writes_workspace_bytes(model, together, dtype);
    }
    most = std::max(most, bytes);
  }
  return most;
}

/// Behind the last block, of the batches that go through the unembedding together.
std::int64_t prediction_workspace_bytes(const ModelDescription& model, const ModelPlan& plan, const BatchSizes& sizes,
                                        ComputeType dtype, const Device& device) {
  if (!plan.wants().predictions) return 0;
  const std::int64_t tokens = std::max(sizes.largest, std::min(sizes.all_tokens, kTokensPredictedTogether));
  return prediction_bytes(model, tokens, std::min(sizes.num_prompts, tokens), dtype, device);
}

}  // namespace

std::int64_t num_statistics(const ModelDescription& model, const ModelPlan& plan) {
  std::int64_t sums = 0;
  for (const PlannedSet& set : plan.sets)
    for (const Chosen& chosen : set.analyses) {
      const Extents extents = chosen.extents(model, Slicing::correct);
      for (const Quantity* quantity : chosen.quantities())
        if (quantity->has_statistics) sums += num_values(*quantity, extents, "prompt");
    }
  return sums;
}

std::int64_t MemoryNeed::least() const {
  return libraries + std::max({layer + workspace + one_batch, unembedding, tensor, collecting});
}

std::int64_t bytes_under_way(const ModelDescription& model, const ModelPlan& plan, const BatchWork& batch,
                             ComputeType dtype) {
  const PlannedSet& set = plan.sets[batch.set];
  const std::int64_t of_longest = set.values_per_token == 0 ? 0 : set.values_per_token * longest_prompt(plan, batch);
  const std::int64_t vector = model.hidden_size * element_size_bytes(dtype);
  const std::int64_t last_tokens = batch.is_predicted ? (model.num_layers + 1) * vector : 0;
  return batch.num_tokens * vector +
         static_cast<std::int64_t>(batch.prompts.size()) * ((set.fixed_values + of_longest) * 8 + last_tokens);
}

std::int64_t num_matrix_elements(const ModelDescription& model, const ModelPlan& plan) {
  MatrixRoles roles;
  for (const Chosen& chosen : plan.of_weights)
    if (const LayerAnalysis* analysis = chosen.of_layers()) add_roles(roles, analysis->needs(model));
  return most_matrix_elements(model, roles);
}

ComputeType type_of_matrices(const ModelDescription& model, ComputeType dtype) {
  // Of nearly all models; asked often.
  if (std::none_of(model.tensors.begin(), model.tensors.end(), std::mem_fn(&TensorInfo::exceeds_float32))) return dtype;
  for (std::int64_t layer = 0; layer < std::ssize(model.layers); ++layer)
    if (exceeds_float32(model, layer)) return ComputeType::float64;
  return dtype;
}

MemoryNeed memory_need(const ModelDescription& model, const ModelPlan& plan, const Job& job) {
  const ComputeType dtype = job.compute.dtype;
  const ComputeType matrices = type_of_matrices(model, dtype);
  const std::int64_t matrix_bytes = num_matrix_elements(model, plan) * element_size_bytes(matrices);
  const Device device = planned_device(job);
  const BatchSizes sizes = sizes_of_batches(model, plan, dtype);
  MemoryNeed need;
  need.libraries = kProgramBytes;
  need.one_batch = sizes.largest_bytes;
  need.all_batches = sizes.all_bytes;
  if (sizes.largest > 0) {
    // Rows of the embedding that the checkpoint keeps.
    need.libraries +=
        kProducts + std::min(kEmbeddingRows, model.vocab_size * model.hidden_size * element_size_bytes(dtype));
    need.layer = largest_layer_bytes(model, dtype);
    if (matrices != dtype) need.layer += matrix_bytes;  // beside what the forward pass has
    need.workspace = std::max(batch_workspace_bytes(model, plan, sizes, dtype, device),
                              prediction_workspace_bytes(model, plan, sizes, dtype, Device::cpu()));
    if (!device.is_host()) {
      need.libraries += 2 * Device::kBroughtAtOnce;
      // What spectra are taken of, of this layer and of the next one.
      need.layer +=
          2 * std::max(matrix_bytes, most_matrix_elements(model, attention_roles()) * element_size_bytes(dtype));
    }
  } else if (takes_spectra(plan)) {
    need.layer = matrix_bytes;
  }
  std::int64_t join = 0;
  for (const Chosen& chosen : plan.of_weights)
    if (const RowsAnalysis* analysis = chosen.of_rows()) {
      need.unembedding = std::max(need.unembedding, analysis->workspace_bytes(model));
      join = std::max(join, analysis->join_bytes(model));
    }
  need.tensor = largest_tensors_bytes(plan, 1);
  const std::int64_t spectra = layers_workspace_bytes(model, plan, 1);
  if (device.leaves_host_free() && sizes.largest > 0)
    need.workspace += std::max(spectra, need.unembedding);
  else
    need.workspace = std::max(need.workspace, spectra);
  need.sums = num_statistics(model, plan) * kStatisticsOfValue;
  for (const PlannedSet& set : plan.sets)
    for (const Chosen& chosen : set.analyses)
      if (chosen.has_set_quantities())
        need.set_join = std::max(need.set_join, chosen.of_prompts()->join_bytes(circumstances_of(set, chosen, model)));
  // The unembedding's join; later two records, rows that wait for their chunk to fill (half a MiB a dataset),
  // statistics' sums, ids.
  need.collecting = std::max(join, 2 * need.one_batch + 20 * kMiB + need.sums + need.set_join) +
                    sizes.num_prompts * kTextsOfPrompt + tensor_group_bytes(plan);
  return need;
}

DeviceNeed device_memory_need(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype,
                              const Device& device) {
  DeviceNeed need;
  const BatchSizes sizes = sizes_of_batches(model, plan, dtype);
  if (sizes.largest == 0) return need;
  need.layer = 2 * largest_layer_bytes(model, dtype);
  need.layer += std::min(need.layer / 4, Device::kBroughtAtOnce);  // not yet widened: at most half of a layer
  need.one_batch = sizes.largest * model.hidden_size * element_size_bytes(dtype);
  const PromptWants wants = plan.wants();
  need.workspace = block_workspace_bytes(model, sizes.largest, sizes.longest, dtype, wants.attention, device);
  if (wants.scores) need.workspace += scores_workspace_bytes(model, sizes.longest, dtype, device);
  std::int64_t of_statistics = 0;
  for (const PlannedSet& set : plan.sets)
    of_statistics = std::max(of_statistics, measurement_device_bytes(model, set.analyses, sizes.longest));
  if (wants.writes) need.workspace += writes_workspace_bytes(model, sizes.largest, dtype, device);
  need.workspace += of_statistics;
  need.workspace = std::max(need.workspace, prediction_workspace_bytes(model, plan, sizes, dtype, device));
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

std::int64_t tensors_in_flight_bytes(const ModelPlan& plan, std::int64_t limit_bytes) {
  const std::int64_t room = (limit_bytes - kProgramBytes) * 3 / 4;
  const std::int64_t all = largest_tensors_bytes(plan, static_cast<std::size_t>(num_threads()));
  return std::max(largest_tensors_bytes(plan, 1), std::min(all, room));
}

std::int64_t sums_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                              std::int64_t limit_bytes) {
  return std::max<std::int64_t>(0, limit_bytes - memory_need(model, plan, job).least());
}

std::int64_t set_join_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                  std::int64_t limit_bytes) {
  const MemoryNeed need = memory_need(model, plan, job);
  return limit_bytes - need.libraries - (need.collecting - need.set_join);
}

namespace {

/// What the work on one layer takes. What is expected may be a little short of what it takes, and what it lacked would
/// be refused.
std::int64_t work_bytes(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                        std::int64_t limit_bytes) {
  const MemoryNeed need = memory_need(model, plan, job);
  const std::int64_t under_way =
      std::max(need.one_batch, std::min(need.all_batches, hidden_bytes_limit(job, model, plan, limit_bytes)));
  const std::int64_t alone = std::max(need.unembedding, tensors_in_flight_bytes(plan, limit_bytes));
  return std::max(need.layer + need.workspace + under_way, alone) * 5 / 4 + need.sums;
}

}  // namespace

std::int64_t hidden_bytes_limit(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                                std::int64_t limit_bytes) {
  const MemoryNeed need = memory_need(model, plan, job);
  const std::int64_t left = limit_bytes - need.libraries - need.layer - need.workspace - need.sums;
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
         std::max<std::int64_t>(0, layers_workspace_bytes(model, plan, num_layers) - need.workspace);
}

std::int64_t layers_in_flight(const Job& job, const ModelDescription& model, const ModelPlan& plan,
                              std::int64_t limit_bytes) {
  if (!takes_spectra(plan) || planned_device(job).leaves_host_free()) return 1;
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
