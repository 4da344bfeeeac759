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
  if (!model.has_forward()) {
    std::int64_t stored = 0;
    for (const TensorInfo& tensor : model.tensors)
      if (is_floating(tensor.type) && !is_buffer(tensor)) stored += tensor.num_elements();
    return stored;
  }
  std::int64_t count = 0;
  for (const TensorSource* source : model.all_sources()) count += num_elements(*source);
  if (model.embedding.tied) count -= num_elements(model.embedding.unembedding);  // it is the token table
  return count;
}

}  // namespace spectrace
