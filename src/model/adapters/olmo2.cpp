#include "../parts/olmo_like.hpp"

namespace spectrace {

/// OLMo-2 (2025, arXiv:2501.00656): norms on the outputs of attention and MLP instead of their inputs, and on all
/// queries and all keys together.
ModelDescription describe_olmo2(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.epsilon = 1e-5});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(false);

  llama.model.norm_placement = "post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(olmo2_layer(llama, names, i, biases));
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_olmo2() { return {"Olmo2ForCausalLM"}; }

}  // namespace spectrace
