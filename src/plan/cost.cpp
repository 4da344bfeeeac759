#include "spectrace/plan/cost.hpp"

#include "spectrace/numerics/singular_values.hpp"

namespace spectrace {
namespace {

std::int64_t num_elements(const TensorSource& source) {
  std::int64_t count = 1;
  for (const std::int64_t size : source.canonical_shape()) count *= size;
  return count;
}

std::int64_t num_elements(const LinearSource& source) {
  return num_elements(source.weight) + (source.bias ? num_elements(*source.bias) : 0);
}

std::int64_t num_elements(const std::optional<NormSource>& source) {
  if (!source) return 0;
  return (source->weight ? num_elements(*source->weight) : 0) + (source->bias ? num_elements(*source->bias) : 0);
}

}  // namespace

double matrices_flops(const ModelDescription& model) {
  const std::int64_t d = model.head_dim, hidden = model.hidden_size;
  return 2 * singular_values_flops(model.num_heads * d, hidden) +
         2 * singular_values_flops(model.num_kv_heads * d, hidden);
}

double heads_flops(const ModelDescription& model) {
  const auto slices = static_cast<double>(2 * model.num_heads + 2 * model.num_kv_heads);
  return slices * singular_values_flops(model.head_dim, model.hidden_size);
}

double value_spectra_flops(const ModelDescription& model) {
  return static_cast<double>(model.num_kv_heads) * singular_values_flops(model.head_dim, model.hidden_size);
}

double unembedding_flops(const ModelDescription& model) {
  const auto shape = model.embedding.unembedding.canonical_shape();
  return singular_values_flops(shape[0], shape[1]);
}

std::int64_t num_block_parameters(const ModelDescription& model) {
  std::int64_t count = 0;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) count += num_layer_parameters(model, layer);
  return count;
}

double prompt_flops(const ModelDescription& model, double num_block_parameters, std::int64_t num_tokens) {
  const auto n = static_cast<double>(num_tokens);
  const double flops = 2 * n * num_block_parameters;
  const double per_head = 4 * n * n * static_cast<double>(model.head_dim);  // scores and weighted values
  return flops + static_cast<double>(model.num_layers) *
                     (per_head * static_cast<double>(model.num_heads) + sheaf_flops(model, num_tokens));
}

double sheaf_flops(const ModelDescription& model, std::int64_t num_tokens) {
  const auto n = static_cast<double>(num_tokens);
  return 4.0 / 3.0 * n * n * n * static_cast<double>(model.num_heads);
}

std::int64_t num_layer_parameters(const ModelDescription& model, std::int64_t layer) {
  const LayerSources& sources = model.layers[static_cast<std::size_t>(layer)];
  std::int64_t count = 0;
  for (const LinearSource* linear :
       {&sources.w_q, &sources.w_k, &sources.w_v, &sources.w_o, &sources.mlp_up, &sources.mlp_down})
    count += num_elements(*linear);
  if (sources.mlp_gate) count += num_elements(*sources.mlp_gate);
  for (const auto* norm : {&sources.query_norm, &sources.key_norm, &sources.attention_input_norm,
                           &sources.attention_output_norm, &sources.mlp_input_norm, &sources.mlp_output_norm})
    count += num_elements(*norm);
  return count;
}

std::int64_t num_parameters(const ModelDescription& model) {
  std::int64_t count = num_block_parameters(model);
  const EmbeddingSources& embedding = model.embedding;
  count += num_elements(embedding.token);
  if (embedding.position) count += num_elements(*embedding.position);
  count += num_elements(embedding.norm) + num_elements(embedding.final_norm);
  if (embedding.project_in) count += num_elements(*embedding.project_in);
  if (!embedding.tied) count += num_elements(embedding.unembedding);
  return count;
}

}  // namespace spectrace
