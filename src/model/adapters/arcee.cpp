#include "../parts/llama_like.hpp"

namespace spectrace {

/// Arcee's AFM (2025): Llama with a plain MLP of squared ReLUs.
ModelDescription describe_arcee(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama =
      read_llama_like(fields, {.activation = "relu2", .epsilon = 1e-5, .max_positions = 4096, .gated_mlp = false});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  LlamaBiases biases = read_attention_biases(fields);
  if (fields.flag("mlp_bias", false)) biases.mlp = Bias::yes;
  const bool tied = fields.tied(false);
  return with_llama_layers(std::move(llama), store, biases, tied);
}

FamilyClass class_of_arcee() { return {"ArceeForCausalLM"}; }

}  // namespace spectrace
