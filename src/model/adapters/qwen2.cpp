#include "../parts/qwen_like.hpp"

namespace spectrace {

/// Qwen2 and Qwen2.5 (2024, arXiv:2407.10671): Llama with biases on q, k and v.
ModelDescription describe_qwen2(const JsonNode& config, const TensorStore& store) {
  ConfigFields fields(config, store, "qwen2");
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 32, .max_positions = 32768});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  set_qwen_windows(llama, fields);
  const bool tied = fields.flag("tie_word_embeddings", false);
  fields.expect_understood();

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(llama_layer(llama, names, i, {.qkv = Bias::yes}));
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

}  // namespace spectrace
