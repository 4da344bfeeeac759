#include "../parts/llama_like.hpp"

namespace spectrace {

/// Llama 1 to 3.3 (Touvron et al. 2023, arXiv:2302.13971; Llama 3: arXiv:2407.21783).
ModelDescription describe_llama(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(
      fields,
      {.hidden_size = 4096, .intermediate_size = 11008, .vocab_size = 32000, .num_layers = 32, .num_heads = 32});
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

const char* class_of_llama() { return "LlamaForCausalLM"; }

}  // namespace spectrace
