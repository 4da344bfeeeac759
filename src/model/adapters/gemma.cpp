#include "../parts/gemma_like.hpp"

namespace spectrace {

/// Gemma (2024, arXiv:2403.08295): Llama with norm weights 1 + w, embeddings times sqrt(D), heads of 256, one key/value
/// head in the 2B model.
ModelDescription describe_gemma(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 16,
                                             .head_dim = 256,
                                             .activation = "gelu_pytorch_tanh",
                                             .norm_weight_offset = 1.0,
                                             .max_positions = 8192});
  // The first releases say "gelu" and mean its tanh form; other names of the exact one mean that.
  if (fields.text({"hidden_act"}, "") == "gelu") llama.model.block.activation = Activation::gelu_tanh;
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  fields.refuse_if_set("use_bidirectional_attention", "only causal attention is supported");
  const LlamaBiases biases = read_attention_biases(fields);
  const bool tied = fields.tied(true);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(llama_layer(llama, names, i, biases));
  set_llama_embedding(llama, names, tied);
  llama.model.embedding.scale = gemma_embedding_scale(llama.model.hidden_size);
  return llama.model;
}

FamilyClass class_of_gemma() { return {"GemmaForCausalLM"}; }

}  // namespace spectrace
