#include "../parts/llama_like.hpp"

namespace spectrace {

/// Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama with a sliding window in every layer, where the config has one.
ModelDescription describe_mistral(const JsonNode& config, const TensorStore& store) {
  ConfigFields fields(config, store, "mistral");
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 8, .max_positions = 131072});
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, std::nullopt);
  fields.refuse_if_set("layer_types", "kinds of layers belong to the family Ministral");
  const bool tied = fields.flag("tie_word_embeddings", false);
  fields.expect_understood();

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(llama_layer(llama, names, i, {}));
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

}  // namespace spectrace
