#include "../parts/qwen_like.hpp"

namespace spectrace {

/// Qwen3 (2025, arXiv:2505.09388): Llama with norms on the queries and keys of each head.
ModelDescription describe_qwen3(const JsonNode& config, const TensorStore& store) {
  ConfigFields fields(config, store, "qwen3");
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 32, .head_dim = 128, .max_positions = 32768});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  set_qwen_windows(llama, fields);
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = biases.output = Bias::yes;
  const bool tied = fields.flag("tie_word_embeddings", false);
  fields.expect_understood();

  const SourceNames names = llama_names(store);
  const Dim head{llama.model.head_dim, "head_dim"};
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    LayerSources layer = llama_layer(llama, names, i, biases);
    layer.query_norm = names.norm("layers." + std::to_string(i) + ".self_attn.q_norm", head, Bias::no);
    layer.key_norm = names.norm("layers." + std::to_string(i) + ".self_attn.k_norm", head, Bias::no);
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

}  // namespace spectrace
