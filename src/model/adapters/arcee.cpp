#include "../parts/llama_like.hpp"

namespace spectrace {

/// Arcee's AFM (2025): Llama with a plain MLP of squared ReLUs.
ModelDescription describe_arcee(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama =
      read_llama_like(fields, {.activation = "relu2", .epsilon = 1e-5, .max_positions = 4096, .gated_mlp = false});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = biases.output = Bias::yes;
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(llama_layer(llama, names, i, biases));
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

const char* class_of_arcee() { return "ArceeForCausalLM"; }

}  // namespace spectrace
