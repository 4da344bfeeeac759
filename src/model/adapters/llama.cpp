#include "../parts/llama_like.hpp"

namespace spectrace {

/// Llama 1 to 3.3 (Touvron et al. 2023, arXiv:2302.13971; Llama 3: arXiv:2407.21783).
ModelDescription describe_llama(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(
      fields,
      {.hidden_size = 4096, .intermediate_size = 11008, .vocab_size = 32000, .num_layers = 32, .num_heads = 32});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  LlamaBiases biases = read_attention_biases(fields);
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_llama() { return {"LlamaForCausalLM"}; }

}  // namespace spectrace
