#include "../parts/llama_like.hpp"

namespace spectrace {

/// OLMo 1 (Groeneveld et al. 2024, arXiv:2402.00838): Llama with LayerNorms without parameters; entries of q, k and v
/// may be clipped.
ModelDescription describe_olmo(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.norm = NormKind::layer_norm, .epsilon_field = nullptr, .epsilon = 1e-5});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const auto clip = fields.optional_scale("clip_qkv", std::nullopt);
  for (AttentionSpec& attention : llama.model.attention) attention.clip_qkv = clip;
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = llama_layer(llama, names, i, biases);
    layer.attention_input_norm = layer.mlp_input_norm = NormSource{};
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  llama.model.embedding.final_norm = NormSource{};
  return llama.model;
}

FamilyClass class_of_olmo() { return {"OlmoForCausalLM"}; }

}  // namespace spectrace
