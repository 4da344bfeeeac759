#include "spectrace/plan/cost.hpp"

#include "spectrace/measure/prompts.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {

double prompt_flops(const ModelDescription& model, double num_block_parameters, const AnalysisChoice& analyses,
                    std::int64_t num_tokens) {
  const auto n = static_cast<double>(num_tokens);
  const double scores_and_values =
      4 * n * n * static_cast<double>(model.head_dim) * static_cast<double>(model.num_heads);
  return 2 * n * num_block_parameters +
         static_cast<double>(model.num_layers) * (scores_and_values + measurement_flops(model, analyses, num_tokens));
}

std::int64_t num_block_parameters(const ModelDescription& model) {
  std::int64_t count = 0;
  for (const LayerSources& layer : model.layers) count += num_elements(layer);
  return count;
}

std::int64_t num_parameters(const ModelDescription& model) {
  if (!model.no_family.empty()) {
    std::int64_t stored = 0;
    for (const TensorInfo& tensor : model.tensors)
      if (is_floating(tensor.type) && !is_buffer(tensor)) stored += tensor.num_elements();
    return stored;
  }
  std::int64_t count = num_block_parameters(model);
  const auto add = [&](const std::optional<TensorSource>& source) {
    if (source) count += num_elements(*source);
  };
  const EmbeddingSources& embedding = model.embedding;
  add(embedding.token);
  add(embedding.position);
  for (const auto* norm : {&embedding.norm, &embedding.final_norm})
    if (*norm) {
      add((*norm)->weight);
      add((*norm)->bias);
    }
  if (embedding.project_in) {
    add(embedding.project_in->weight);
    add(embedding.project_in->bias);
  }
  if (!embedding.tied) add(embedding.unembedding);
  return count;
}

}  // namespace spectrace
