#include "../parts/gemma_like.hpp"

namespace spectrace {

/// Gemma-2 (2024, arXiv:2408.00118): soft-capped scores, a window in every other layer, four norms with weight 1 + w,
/// embeddings times sqrt(D).
ModelDescription describe_gemma2(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(fields, {.num_kv_heads = 4,
                                             .head_dim = 256,
                                             .activation_field = "hidden_activation",
                                             .activation = "gelu_pytorch_tanh",
                                             .norm_weight_offset = 1.0,
                                             .max_positions = 8192});
  fields.find("hidden_act");  // the same word twice in the hub's files; hidden_activation is the one that counts
  set_attention(llama, read_rope(fields, {}, llama.model.head_dim, llama.model.max_positions));
  set_gemma2_scores(llama, fields, 50.0, 30.0);
  auto sliding = fields.sliding_layers(llama.model.num_layers);
  if (!sliding) {
    sliding.emplace();
    for (std::int64_t i = 0; i < llama.model.num_layers; ++i) sliding->push_back(i % 2 == 0);
  }
  const auto window = fields.window("sliding_window", 4096);
  if (window) set_sliding_window(llama, *window, sliding);
  LlamaBiases biases;
  if (fields.flag("attention_bias", false)) biases.qkv = biases.output = Bias::yes;
  const bool tied = fields.tied(true);

  llama.model.norm_placement = "pre+post";
  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i)
    llama.model.layers.push_back(gemma2_layer(llama, names, i, biases));
  set_llama_embedding(llama, names, tied);
  llama.model.embedding.scale = gemma_embedding_scale(llama.model.hidden_size);
  return llama.model;
}

}  // namespace spectrace
